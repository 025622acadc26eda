// Package netns tests whole meshes: real processes on hosts made of network
// namespaces, real packets, kill -9 (tag e2e; no root needed). Its lab builds
// the world; the files here say what a mesh must do in it. Nothing imports it.
package netns
