package portal

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"postrider"
)

const sessionCookie = "postrider_session"

// sessionOf is who a request comes from. A session ends with the key that it
// was made with.
func (p *Portal) sessionOf(r *http.Request) (postrider.Session, bool) {
	cookie, err := r.Cookie(sessionCookie)
	if err != nil || cookie.Value == "" {
		return postrider.Session{}, false
	}
	session, err := p.o.Sessions.Session(r.Context(), postrider.HashToken(cookie.Value))
	if err != nil {
		if _, missing := errors.AsType[*postrider.Error](err); !missing {
			p.o.Logger.ErrorContext(r.Context(), "session not read", "error", err)
		}
		return postrider.Session{}, false
	}
	return session, p.o.Keys.HasKey(session.Key)
}

// secure reports whether browsers reach us over TLS.
func (p *Portal) secure(r *http.Request) bool {
	return r.TLS != nil || strings.HasPrefix(p.o.PublicURL, "https://")
}

// setCookie sets a cookie that scripts cannot read and other sites cannot
// send. Only where the portal may stand in another site's frame must a browser
// send it from there; forms are closed to other sites in any case.
func (p *Portal) setCookie(v *visit, name, value string, age time.Duration) {
	cookie := &http.Cookie{ //nolint:gosec // Secure where the visitor came by TLS
		Name: name, Value: value, Path: "/portal", HttpOnly: true, Secure: p.secure(v.r), SameSite: http.SameSiteLaxMode,
		MaxAge: int(age / time.Second),
	}
	if age <= 0 {
		cookie.MaxAge = -1
	}
	if len(p.o.FrameAncestors) > 0 && cookie.Secure {
		cookie.SameSite, cookie.Partitioned = http.SameSiteNoneMode, true
	}
	http.SetCookie(v.w, cookie)
}

type signInPage struct {
	Error string
	Next  string
}

func (p *Portal) showSignIn(v *visit) error {
	if v.signed {
		return v.redirect(homeOf(&v.session))
	}
	p.render(v, http.StatusOK, "signin", "", "Sign in", signInPage{Next: v.r.FormValue("next")})
	return nil
}

func (p *Portal) signIn(v *visit) error {
	next := v.r.PostFormValue("next")
	key, err := p.o.Keys.Authenticate(strings.TrimSpace(v.r.PostFormValue("key")))
	if err != nil {
		p.render(v, http.StatusUnauthorized, "signin", "", "Sign in", signInPage{
			Error: "This API key is not known here. Check that it was copied whole, and that it was not revoked.", Next: next,
		})
		return nil //nolint:nilerr // the page says what is wrong
	}
	if err := p.begin(v, postrider.Session{Tenant: key.Tenant, Key: key.Hash}); err != nil {
		return err
	}
	return v.redirect(p.safeNext(&v.session, next))
}

// enter turns a one-time link into a session. The token goes no further than
// this request: what follows is a page without it.
func (p *Portal) enter(v *visit) error {
	if v.r.Method != http.MethodGet {
		return nil // a HEAD is somebody's look ahead, and must not use the link up
	}
	link, err := p.o.Sessions.TakePortalLink(v.r.Context(), postrider.HashToken(v.r.FormValue("token")))
	if e, found := errors.AsType[*postrider.Error](err); found && e.Kind == postrider.NotFound || err == nil && !p.o.Keys.HasKey(link.Key) {
		p.render(v, http.StatusNotFound, "signin", "", "Sign in", signInPage{
			Error: "This link was used before, or is too old. Ask for a new one, or sign in with an API key.",
		})
		return nil
	}
	if err != nil {
		return err
	}
	if err := p.begin(v, postrider.Session{Tenant: link.Tenant, Key: link.Key}); err != nil {
		return err
	}
	return v.redirect(homeOf(&v.session))
}

// begin gives the browser a session of its own: one that it had before ends,
// so that nobody can plant theirs.
func (p *Portal) begin(v *visit, session postrider.Session) error {
	if v.signed {
		if err := p.o.Sessions.DeleteSession(v.r.Context(), v.session.Hash); err != nil {
			return err
		}
	}
	token := postrider.NewToken()
	session.Hash, session.ExpiresAt = postrider.HashToken(token), time.Now().Add(postrider.MaxSession)
	if err := p.o.Sessions.PutSession(v.r.Context(), session); err != nil {
		return err
	}
	p.setCookie(v, sessionCookie, token, postrider.MaxSession)
	v.session, v.signed = session, true
	return nil
}

func (p *Portal) signOut(v *visit) error {
	if v.signed {
		if err := p.o.Sessions.DeleteSession(v.r.Context(), v.session.Hash); err != nil {
			return err
		}
	}
	p.setCookie(v, sessionCookie, "", 0)
	return v.redirect("/portal/sign_in")
}

func (p *Portal) home(v *visit) error {
	if !v.signed {
		return v.redirect("/portal/sign_in")
	}
	return v.redirect(homeOf(&v.session))
}

func homeOf(session *postrider.Session) string {
	if session.Operator() {
		return operatorBase + "/"
	}
	return tenantBase(session.Tenant) + "/"
}

// askToSignIn sends a visitor who is nobody to the form, and has the form send
// them back.
func (p *Portal) askToSignIn(v *visit) {
	to := "/portal/sign_in"
	if v.r.Method == http.MethodGet && !v.partial() {
		to += "?next=" + url.QueryEscape(v.r.URL.RequestURI())
	}
	v.redirect(to) //nolint:errcheck // it never fails
}

// safeNext is where a visitor wanted to go, when that is a page of ours.
func (p *Portal) safeNext(session *postrider.Session, next string) string {
	to, err := url.Parse(next)
	if err != nil || to.Host != "" || to.Scheme != "" || !strings.HasPrefix(to.Path, "/portal/") ||
		strings.Contains(to.Path, "..") || strings.ContainsRune(to.Path, '\\') {
		return homeOf(session)
	}
	return to.RequestURI()
}

// A flash is what one page says once of what the form before it did.
type flash struct {
	Text   string `json:"text"`
	Bad    bool   `json:"bad,omitempty"`
	Secret string `json:"secret,omitempty"` // shown once, with a button to copy it
	Label  string `json:"label,omitempty"`  // what the secret is
}

const (
	flashCookie = "postrider_flash"
	flashAge    = time.Minute
)

// flashes seals flashes, since one may hold a secret: a cookie is kept on the
// browser's disk. The server keeps nothing, so that any node can show it.
type flashes struct{ aead cipher.AEAD }

func newFlashes(key [32]byte) flashes {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic("portal: " + err.Error()) // the key has the one length that is right
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic("portal: " + err.Error())
	}
	return flashes{aead}
}

// say has the next page of this session show a flash.
func (p *Portal) say(v *visit, f flash) {
	text, err := json.Marshal(f) //nolint:gosec // it is sealed in the next step
	if err != nil {
		panic("portal: " + err.Error()) // strings alone
	}
	sealed := p.flashes.aead.Seal(nil, nil, text, v.session.Hash[:]) //nolint:gosec // this AEAD makes a random nonce itself
	p.setCookie(v, flashCookie, base64.RawURLEncoding.EncodeToString(sealed), flashAge)
}

// said takes the flash that the page before has left, so that it is shown
// once.
func (p *Portal) said(v *visit) *flash {
	cookie, err := v.r.Cookie(flashCookie)
	if err != nil || v.partial() {
		return nil
	}
	p.setCookie(v, flashCookie, "", 0)
	sealed, err := base64.RawURLEncoding.DecodeString(cookie.Value)
	if err != nil {
		return nil
	}
	text, err := p.flashes.aead.Open(nil, nil, sealed, v.session.Hash[:])
	var f flash
	if err != nil || json.Unmarshal(text, &f) != nil {
		return nil
	}
	return &f
}
