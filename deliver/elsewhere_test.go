package deliver_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The signatures of all golden requests are those that OpenSSL computes from the
// bytes of the files: nothing of deliver/sign is used here.
func TestGoldensVerifiedElsewhere(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("openssl is not installed")
		}
		t.Skip("openssl is not installed: nothing else here can compute the signatures")
	}
	dir := filepath.Join("..", "testdata", "requests")
	var secrets struct{ Requests map[string][]string }
	b, err := os.ReadFile(filepath.Join(dir, "secrets.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &secrets); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.http"))
	if err != nil || len(files) != len(secrets.Requests) {
		t.Fatalf("%d files, secrets of %d (%v)", len(files), len(secrets.Requests), err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		t.Run(name, func(t *testing.T) {
			request, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			head, body, _ := bytes.Cut(request, []byte("\r\n\r\n"))
			_, fields, _ := bytes.Cut(head, []byte("\r\n"))
			mime, err := textproto.NewReader(bufio.NewReader(bytes.NewReader(append(fields, "\r\n\r\n"...)))).ReadMIMEHeader()
			if err != nil {
				t.Fatal(err)
			}
			elsewhere(t, http.Header(mime), body, secrets.Requests[name])
		})
	}
}

// elsewhere checks each signature of a request.
func elsewhere(t *testing.T, h http.Header, body []byte, secrets []string) {
	named := h.Get("Webhook-Id") + "." + h.Get("Webhook-Timestamp") + "." + string(body)
	standard := strings.Fields(h.Get("Webhook-Signature"))
	switch stamped := h.Get("Acme-Signature"); {
	case len(standard) > 0 && strings.HasPrefix(standard[0], "v1a,"):
		if len(standard) != 1 || !verifies(t, secrets[0], standard[0], named) || verifies(t, secrets[0], standard[0], named+" ") {
			t.Errorf("ed25519: %v", standard)
		}
	case len(standard) > 0:
		var want []string
		for _, s := range secrets {
			key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(s, "whsec_"))
			if err != nil {
				t.Fatal(err)
			}
			mac, _ := hex.DecodeString(opensslMAC(t, hex.EncodeToString(key), named))
			want = append(want, "v1,"+base64.StdEncoding.EncodeToString(mac))
		}
		if got := strings.Join(standard, " "); got != strings.Join(want, " ") {
			t.Errorf("standard: %s, want %s", got, want)
		}
	case stamped != "":
		stamp, _, _ := strings.Cut(strings.TrimPrefix(stamped, "t="), ",")
		want := "t=" + stamp
		for _, s := range secrets {
			want += ",v1=" + opensslMAC(t, hex.EncodeToString([]byte(s)), stamp+"."+string(body))
		}
		if stamped != want || stamp != h.Get("X-Acme-Timestamp") {
			t.Errorf("timestamped: %s, want %s", stamped, want)
		}
	default:
		found := 0
		for name, value := range h {
			if !strings.HasSuffix(name, "-Signature") && !strings.HasSuffix(name, "-Signature-Previous") {
				continue
			}
			secret := secrets[0]
			if strings.HasSuffix(name, "-Previous") {
				secret = secrets[1]
			}
			found++
			if want := "sha256=" + opensslMAC(t, hex.EncodeToString([]byte(secret)), string(body)); value[0] != want {
				t.Errorf("%s: %s, want %s", name, value[0], want)
			}
		}
		if found != len(secrets) {
			t.Errorf("%d signatures, %d secrets", found, len(secrets))
		}
	}
}

// opensslMAC is the HMAC-SHA256 in hex.
func opensslMAC(t *testing.T, hexKey, text string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), "openssl", "dgst", "-sha256", "-mac", "HMAC", "-macopt", "hexkey:"+hexKey, "-r")
	c.Stdin = strings.NewReader(text)
	out, err := c.Output()
	if err != nil {
		t.Fatal(err)
	}
	sum, _, _ := strings.Cut(string(out), " ")
	return sum
}

// verifies reports whether OpenSSL accepts an Ed25519 signature by a whpk_ key.
func verifies(t *testing.T, public, signature, text string) bool {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(public, "whpk_"))
	if err != nil {
		t.Fatal(err)
	}
	sig, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(signature, "v1a,"))
	if err != nil {
		t.Fatal(err)
	}
	der := append([]byte{0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00}, key...) // RFC 8410, section 4
	out, err := exec.CommandContext(t.Context(), "openssl", "pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", write("key", der),
		"-rawin", "-in", write("text", []byte(text)), "-sigfile", write("signature", sig)).CombinedOutput()
	if err != nil && !bytes.Contains(out, []byte("Verification Failure")) {
		t.Fatalf("openssl: %v\n%s", err, out)
	}
	return err == nil
}
