package e2e

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
)

// Page is a page of the portal, as a browser gets it that signs in with the
// server's key.
func (s *Server) Page(path string) string {
	s.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	browser := &http.Client{Jar: jar, Timeout: client.Timeout}
	// The page is where signing in leads to.
	response, err := browser.PostForm(s.URL+"/portal/sign_in", url.Values{"key": {s.Key}, "next": {path}}) //nolint:noctx // it has a timeout
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK || response.Request.URL.Path != path {
		s.t.Fatalf("got status %d of %s, %v, want the page %s: %s", response.StatusCode, response.Request.URL, err, path, text)
	}
	return string(text)
}
