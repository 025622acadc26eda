package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/node/control"
)

func (a *app) caCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use: "ca", Short: "whose certificates let clients in",
		Long: `A client may log in by a certificate: of the mesh's own CA, or of one that was
imported. Each client has one CA that counts (client add --cert or --ca NAME).

A certificate names its client by the URI mesh://<cluster>/client/<name> that the
mesh's CA writes, else by its only e-mail address, else by its common name.`,
		Example: "  meshcrypt ca show\n  meshcrypt ca import corp corp-root.pem\n  meshcrypt ca revoke ann.crt",
	})
	cmd.AddCommand(a.caShowCommand(), a.caIssueCommand(), a.caImportCommand(), a.caRevokeCommand())
	return cmd
}

func (a *app) caShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show", Short: "list authorities and certificates", Args: cobra.NoArgs,
		Long: "List the authorities, and the certificates that the mesh issued to clients or that were\nrevoked.", Example: "  meshcrypt ca show",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var list control.Authorities
			if err := a.call(cmd.Context(), control.OpCAShow, control.Nothing{}, &list); err != nil {
				return err
			}
			withSchema(&list.Schema, "ca")
			return a.print(list, func(w io.Writer) {
				row(w, "AUTHORITY", "SUBJECT", "STATE", "UNTIL", "CLIENTS", "HASH OF KEY")
				for _, one := range list.Authorities {
					row(w, one.Name, one.Subject, one.State, day(one.Ends), one.Clients, one.Hash)
				}
				fmt.Fprintln(w)
				row(w, "SERIAL", "CLIENT", "AUTHORITY", "STATE", "UNTIL")
				for _, one := range list.Certificates {
					row(w, one.Serial, one.Client, one.Authority, one.State, day(one.Ends))
				}
			})
		},
	}
}

// day is a date for a table; none is left out.
func day(t time.Time) string {
	if t.Unix() == 0 || t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.DateTime)
}

// issueFlags say what to certify and where to write it.
type issueFlags struct {
	csr, out string
	life     time.Duration
}

func (f *issueFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.csr, "csr", "", "certify this request (PKCS #10, PEM) instead of making a key")
	flags.StringVar(&f.out, "out", ".", "directory for NAME.crt and NAME.key")
	flags.DurationVar(&f.life, "life", pki.ClientLife, "how long the certificate is good")
}

func (a *app) caIssueCommand() *cobra.Command {
	var f issueFlags
	cmd := &cobra.Command{
		Use: "issue NAME", Short: "give a client a certificate of the mesh", Args: cobra.ExactArgs(1),
		Long: `Give a client that was added with --cert a further certificate, for another device
or in time before the first one ends. A key is made here and written to NAME.key
for its owner alone; with --csr the key stays where the request was made. Only the
key is taken from a request.`,
		Example: "  meshcrypt ca issue ann --out /root/ann\n  meshcrypt ca issue ann --csr ann.csr --life 720h",
		RunE:    func(cmd *cobra.Command, args []string) error { return a.issueCertificate(cmd.Context(), f, args[0]) },
	}
	f.add(cmd.Flags())
	return cmd
}

func (a *app) issueCertificate(ctx context.Context, f issueFlags, name string) error {
	if err := f.room(name); err != nil {
		return err
	}
	csr, key, err := f.request()
	if err != nil {
		return err
	}
	var issued control.Issued
	request := control.IssueRequest{Client: name, CSR: csr, Life: f.life}
	if err := a.call(ctx, control.OpCAIssue, request, &issued); err != nil {
		return err
	}
	files := []string{filepath.Join(f.out, name+".crt")}
	err = writePEM(files[0], "CERTIFICATE", issued.Certificate)
	if err == nil && key != nil {
		files = append(files, filepath.Join(f.out, name+".key"))
		err = writePEM(files[1], "PRIVATE KEY", key)
	}
	if err != nil {
		return control.Errorf(control.CodeFailed, "meshcrypt ca revoke "+issued.Serial+", and issue another to an empty --out",
			"the certificate was issued, and could not be written: %v", err)
	}
	withSchema(&issued.Schema, "certificate")
	return a.print(issued, func(w io.Writer) {
		row(w, "Certificate", files[0])
		if key != nil {
			row(w, "Key", files[1])
		}
		row(w, "Serial", issued.Serial)
		row(w, "Until", day(issued.Ends))
	})
}

// room looks whether the files can be written, before anything is issued.
func (f issueFlags) room(name string) error {
	if err := unix.Access(f.out, unix.W_OK|unix.X_OK); err != nil {
		return usage("mkdir "+f.out+", or name another --out", "--out %s: %v", f.out, err)
	}
	files := []string{name + ".crt"}
	if f.csr == "" {
		files = append(files, name+".key")
	}
	for _, file := range files {
		if path := filepath.Join(f.out, file); !gone(path) {
			return usage("move it away, or name another --out", "%s is there already", path)
		}
	}
	return nil
}

// request reads a request, or makes a key and one for it.
func (f issueFlags) request() (csr, key []byte, err error) {
	if f.life < time.Second || f.life > pki.MaxClientLife {
		return nil, nil, usage("--life 8760h", "--life %s: want 1s to %s", f.life, pki.MaxClientLife)
	}
	if f.csr != "" {
		text, err := readFile(f.csr, MaxCertificateFile)
		if err != nil {
			return nil, nil, usage("name a readable file with --csr", "--csr: %v", err)
		}
		block, _ := pem.Decode(text)
		if block == nil || block.Type != "CERTIFICATE REQUEST" {
			return nil, nil, usage("openssl req -new -key ann.key -subj /CN=ann -out ann.csr", "%s holds no certificate request in PEM", f.csr)
		}
		return block.Bytes, nil, nil
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	key, keyErr := x509.MarshalPKCS8PrivateKey(private)
	csr, csrErr := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, private)
	return csr, key, errors.Join(keyErr, csrErr)
}

// writePEM writes a file that only its owner reads; it replaces none.
func writePEM(path, kind string, der []byte) error {
	return writeNew(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func (a *app) caImportCommand() *cobra.Command {
	return &cobra.Command{
		Use: "import NAME FILE", Short: "let another CA's certificates count", Args: cobra.ExactArgs(2),
		Long: `Make a CA known under a name. FILE holds its trust anchors in PEM: a root, or what
is below one. Its certificates let in only those clients that are added with
--ca NAME, and only certificates for client authentication count. Constraints on
names hold for e-mail addresses and URIs, not for a common name.

No revocation list is fetched: revoke single certificates with meshcrypt ca revoke.`,
		Example: "  meshcrypt ca import corp corp-root.pem\n  meshcrypt client add ann@example.com --ca corp",
		RunE: func(cmd *cobra.Command, args []string) error {
			roots, err := readCertificates(args[1])
			if err != nil {
				return err
			}
			if err := a.call(cmd.Context(), control.OpCAImport, control.ImportRequest{Name: args[0], Roots: roots}, nil); err != nil {
				return err
			}
			a.say("%s is imported. Who may log in by it: meshcrypt client add NAME --ca %s", args[0], args[0])
			return nil
		},
	}
}

func (a *app) caRevokeCommand() *cobra.Command {
	var authority string
	cmd := &cobra.Command{
		Use: "revoke [FILE | SERIAL | --authority NAME]", Short: "let a certificate, or an imported CA, count no more", Args: cobra.MaximumNArgs(1),
		Long: `Refuse a certificate from now on, whoever issued it, and end the sessions that
were opened with it. Name its file, or its serial number if meshcrypt ca show
lists it. --authority refuses all certificates of an imported CA.`,
		Example: "  meshcrypt ca revoke ann.crt\n  meshcrypt ca revoke 5f2e91c4\n  meshcrypt ca revoke --authority corp",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.revokeCertificate(cmd.Context(), authority, args)
		},
	}
	cmd.Flags().StringVar(&authority, "authority", "", "name of an imported CA")
	return cmd
}

func (a *app) revokeCertificate(ctx context.Context, authority string, args []string) error {
	request, what := control.RevokeRequest{Authority: authority}, authority
	switch {
	case (authority == "") == (len(args) == 0):
		return usage("meshcrypt ca revoke --help", "name one of a file, a serial number, or --authority")
	case len(args) == 0:
	case isFile(args[0]):
		list, err := readCertificates(args[0])
		if err != nil {
			return err
		}
		request.Certificate, what = list[0], args[0]
	default:
		request.Serial, what = args[0], args[0]
	}
	if err := a.call(ctx, control.OpCARevoke, request, nil); err != nil {
		return err
	}
	a.say("%s is revoked.", what)
	return nil
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
