// Package e2e tests the project as a whole: its arrows, its style, its
// documents and, in the directories below, whole meshes. It owns no code that
// anything else imports.
package e2e
