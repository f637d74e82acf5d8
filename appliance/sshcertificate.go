package appliance

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/appliance/api"
	"sallyport/appliance/audit"
	"sallyport/appliance/policy"
	"sallyport/appliance/sshca"
	"sallyport/frame"
)

// A CertificateAuthority signs SSH keys of devices.
type CertificateAuthority interface {
	Sign(ssh.PublicKey, sshca.Subject) (*ssh.Certificate, error)
}

// maxSSHKey bounds a public key that is asked about: RSA of 16384 bits is 2.8 kB.
const maxSSHKey = 8 << 10

// plainName says whether a user name may be an SSH principal without a rule that says so. Names that mean something to
// targets may not, nor those with a part behind @, which rules use to mean one target.
func plainName(user string) bool {
	return !slices.Contains([]string{"root", "admin", "administrator", "daemon", "bin", "sys", "nobody", "postgres", "mysql", "ubuntu", "debian", "centos", "ec2-user", "azureuser"}, user) &&
		!strings.Contains(user, "@")
}

// sshCertificate signs a key for who could open a flow to the target at this moment.
func (c call) sshCertificate(ask api.AskSSHCertificate) (any, error) {
	if len(ask.Key) > maxSSHKey {
		return nil, frame.Refuse("E_USAGE", "the SSH key is too long", "")
	}
	key, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(ask.Key))
	if _, certificate := key.(*ssh.Certificate); err != nil || certificate || len(options)+len(rest) > 0 {
		return nil, frame.Refuse("E_USAGE", "this is not an SSH public key", "")
	}
	if c.gateway.SSHCA == nil {
		return nil, errNoSSHCA
	}
	f, err := c.gateway.consider(c.peer, frame.OpenRequest{Target: ask.Target, Port: ask.Port, Protocol: policy.SSH}, true)
	if err == nil && len(f.grant.Approval) > 0 {
		err = f.approved(f.grant.Approval, f.begun)
	}
	if err == nil {
		_, err = f.principals()
	}
	if err != nil {
		f.refused(reasonOf(err), err)
		return nil, err
	}
	cert, err := f.certify(key)
	if err != nil {
		return nil, err
	}
	return api.SSHCertificate{Certificate: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(cert))), Principals: cert.ValidPrincipals,
		Expires: time.Unix(int64(cert.ValidBefore), 0).UTC()}, nil
}

var errNoSSHCA = frame.Refuse("E_DENIED", "this appliance signs no SSH keys", "")

// principals are the users on the target that a certificate for the flow's person is for.
func (f *flow) principals() ([]string, error) {
	switch principals := f.grant.Principals; {
	case principals == nil && !plainName(f.peer.User):
		return nil, frame.Refuse("E_DENIED", fmt.Sprintf("%s is no name that a certificate is given for by itself", f.peer.User), "an administrator can name principals in the rule")
	case principals == nil:
		return []string{f.peer.User}, nil
	case len(principals) == 0:
		return nil, frame.Refuse("E_DENIED", fmt.Sprintf("the rules that let you reach %s have no principal in common", f.grant.Target), "use a key of your own, or ask an administrator")
	default:
		return principals, nil
	}
}

// certify signs a key for the flow's person and target, and writes that.
func (f *flow) certify(key ssh.PublicKey) (*ssh.Certificate, error) {
	g := f.gateway
	if g.SSHCA == nil {
		return nil, errNoSSHCA
	}
	principals, err := f.principals()
	if err != nil {
		return nil, err
	}
	cert, err := g.SSHCA.Sign(key, sshca.Subject{ID: f.peer.User + " " + f.peer.Device + " " + f.grant.Target, Principals: principals})
	if err != nil {
		return nil, err
	}
	e := f.event(audit.CertificateIssued)
	e.Object = ssh.FingerprintSHA256(key)
	e.Detail = map[string]string{"serial": strconv.FormatUint(cert.Serial, 10), "principals": strings.Join(principals, ",")}
	return cert, g.demand(e)
}
