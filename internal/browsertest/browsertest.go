// Package browsertest looks at the portal with the eyes of its users: a real
// server, a real browser without a window, clicks and keys.
//
// It knows pages by what stands on them. Only tests are in it; go test runs
// them, and `make screenshots` those that take pictures.
package browsertest

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// browser is one process for all tests of the package: starting one takes
// longer than most tests.
var browser struct {
	once   sync.Once
	ctx    context.Context //nolint:containedctx // lives as long as the test binary
	cancel context.CancelFunc
	err    error
}

// programs are the names that Chromium goes by.
var programs = []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"}

func startBrowser() {
	var program string
	for _, name := range programs {
		if path, err := exec.LookPath(name); err == nil {
			program = path
			break
		}
	}
	if program == "" {
		browser.err = errors.New("these tests need Chromium: scripts/install-test-tools chromium installs it")
		return
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(program),
		chromedp.NoSandbox, // the tests may run as root, and visit our own pages alone
		chromedp.Flag("font-render-hinting", "none"), chromedp.Flag("force-color-profile", "srgb"),
	)
	allocator, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	browser.ctx, browser.cancel = chromedp.NewContext(allocator)
	stop := browser.cancel
	browser.cancel = func() { stop(); cancel() }
	browser.err = chromedp.Do(browser.ctx)
}

// CloseBrowser ends the browser, when one was started.
func CloseBrowser() {
	if browser.cancel != nil {
		browser.cancel()
	}
}

// A Tab is one tab with its own cookies.
type Tab struct {
	t   testing.TB
	ctx context.Context //nolint:containedctx // a tab is its context
	url string          // of the server

	mu     sync.Mutex
	faults []string // what no page may do
}

// patience bounds every wait: a busy machine is slow, and a page that does not
// come fails the test.
const patience = 30 * time.Second

// NewTab opens a tab. When the test ends, it fails if a page of it opened a
// dialog, asked another host for anything, broke its content policy or threw an
// error.
func NewTab(t testing.TB, server string) *Tab {
	t.Helper()
	browser.once.Do(startBrowser)
	if browser.err != nil {
		t.Fatalf("start the browser: %v", browser.err)
	}
	ctx, cancel := chromedp.NewContext(browser.ctx, chromedp.WithNewBrowserContext())
	tab := &Tab{t: t, ctx: ctx, url: server}
	t.Cleanup(func() {
		cancel()
		tab.mu.Lock()
		defer tab.mu.Unlock()
		for _, fault := range tab.faults {
			t.Error(fault)
		}
	})
	// This opens the tab, which ends with the context that opened it.
	if err := chromedp.Listen(ctx, tab.listen); err != nil {
		t.Fatalf("open a tab: %v", err)
	}
	tab.call(func(ctx context.Context) error {
		_, err := chromedp.Call(ctx, network.Enable, network.EnableParams{})
		return err
	})
	tab.call(func(ctx context.Context) error { _, err := chromedp.Call(ctx, log.Enable, cdp.Empty{}); return err })
	tab.call(func(ctx context.Context) error { _, err := chromedp.Call(ctx, runtime.Enable, cdp.Empty{}); return err })
	tab.Size(1280, 900)
	return tab
}

func (tab *Tab) fault(format string, args ...any) {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	tab.faults = append(tab.faults, fmt.Sprintf(format, args...))
}

func (tab *Tab) listen(event any) {
	switch e := event.(type) {
	case *page.EventJavascriptDialogOpening:
		tab.fault("a page opened a dialog: %s", e.Message)
	case *network.EventRequestWillBeSent:
		if url := e.Request.URL; !strings.HasPrefix(url, tab.url+"/") && !strings.HasPrefix(url, "data:") {
			tab.fault("a page asked a third party: %s", url)
		}
	case *log.EventEntryAdded:
		// That a form was refused is told here as well, and is none of its faults.
		if e.Entry.Level == log.EntryLevelError && !strings.Contains(e.Entry.Text, "the server responded with a status of 4") {
			tab.fault("the browser complains: %s (%s)", e.Entry.Text, e.Entry.URL)
		}
	case *runtime.EventExceptionThrown:
		tab.fault("a script threw: %s", e.ExceptionDetails.Text)
	}
}

// call runs something in the tab, within patience.
func (tab *Tab) call(run func(context.Context) error) {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	if err := run(ctx); err != nil {
		tab.t.Fatalf("at %s: %v\n%s", tab.At(), err, tab.excerpt())
	}
}

// Do runs actions.
func (tab *Tab) Do(actions ...chromedp.Action[chromedp.Void]) {
	tab.t.Helper()
	tab.call(func(ctx context.Context) error { return chromedp.Do(ctx, actions...) })
}

// Script is what an expression on the page comes to.
func Script[T any](tab *Tab, expression string) (value T) {
	tab.t.Helper()
	tab.call(func(ctx context.Context) (err error) {
		value, err = chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
		return err
	})
	return value
}

// Script runs an expression for what it does.
func (tab *Tab) Script(expression string) {
	tab.t.Helper()
	tab.Do(chromedp.Evaluate[chromedp.Void](expression, chromedp.EvalAwaitPromise))
}

// At is the address of the page that is shown, without the server.
func (tab *Tab) At() string {
	ctx, cancel := context.WithTimeout(tab.ctx, 5*time.Second)
	defer cancel()
	at, err := chromedp.Run(ctx, chromedp.Location())
	if err != nil {
		return "an unknown page"
	}
	return strings.TrimPrefix(at, tab.url)
}

func (tab *Tab) excerpt() string {
	ctx, cancel := context.WithTimeout(tab.ctx, 5*time.Second)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](`document.body.innerText.slice(0, 1500)`))
	if err != nil {
		return ""
	}
	return text
}

// Open goes to a page.
func (tab *Tab) Open(path string) {
	tab.t.Helper()
	tab.Do(chromedp.Navigate(tab.url + path))
}

// Size sets the size of the window.
func (tab *Tab) Size(width, height int64) {
	tab.t.Helper()
	tab.call(func(ctx context.Context) error {
		_, err := chromedp.Call(ctx, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
			Width: width, Height: height, DeviceScaleFactor: 1,
		})
		return err
	})
}

// Theme sets what the system prefers, light or dark. Nothing moves.
func (tab *Tab) Theme(name string) {
	tab.t.Helper()
	tab.call(func(ctx context.Context) error {
		_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{
				{Name: "prefers-color-scheme", Value: name}, {Name: "prefers-reduced-motion", Value: "reduce"},
			},
		})
		return err
	})
}

// SignIn types an API key into the form.
func (tab *Tab) SignIn(key string) {
	tab.t.Helper()
	tab.Open("/portal/sign_in")
	tab.Fill("#key", key)
	tab.Press("Sign in")
	tab.Wait("nav.menu")
}

// Fill types into a field, in place of what was there.
func (tab *Tab) Fill(selector, text string) {
	tab.t.Helper()
	tab.Wait(selector)
	tab.Script(fmt.Sprintf(`{ const field = document.querySelector(%q); field.focus(); field.select(); }`, selector))
	tab.Do(chromedp.SendKeys(chromedp.CSS(selector), text))
}

// Press clicks the button, link or label that has a text.
func (tab *Tab) Press(text string) {
	tab.t.Helper()
	tab.Do(chromedp.Click(chromedp.Search(fmt.Sprintf(
		`//*[self::a or self::button or self::label or self::summary][contains(normalize-space(.), %q)]`, text)), chromedp.NodeVisible))
}

// Click clicks an element.
func (tab *Tab) Click(selector string) {
	tab.t.Helper()
	tab.Do(chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible))
}

// Keys presses keys, wherever the focus is.
func (tab *Tab) Keys(keys string) {
	tab.t.Helper()
	tab.Do(chromedp.KeyEvent(keys))
}

// Wait waits until an element is there.
func (tab *Tab) Wait(selector string) {
	tab.t.Helper()
	tab.Do(chromedp.WaitReady(chromedp.CSS(selector)))
}

// WaitFor waits until an expression on the page is true, be it on the page
// that comes next: between two pages there is nothing to ask.
func (tab *Tab) WaitFor(expression string) {
	tab.t.Helper()
	tab.call(func(ctx context.Context) error {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			if yes, err := chromedp.Run(ctx, chromedp.Evaluate[bool](expression)); err == nil && yes {
				return nil
			} else if ctx.Err() != nil {
				return fmt.Errorf("wait for %s: %w", expression, errors.Join(err, ctx.Err()))
			}
			<-tick.C
		}
	})
}

// WaitText waits until the page shows a text.
func (tab *Tab) WaitText(text string) {
	tab.t.Helper()
	tab.WaitFor(fmt.Sprintf(`document.body !== null && document.body.innerText.includes(%q)`, text))
}

// Text is what the page shows.
func (tab *Tab) Text() string {
	tab.t.Helper()
	return Script[string](tab, `document.body.innerText`)
}

// Window is a picture of what the window shows.
func (tab *Tab) Window() (png []byte) {
	tab.t.Helper()
	tab.call(func(ctx context.Context) (err error) {
		png, err = chromedp.Run(ctx, chromedp.CaptureScreenshot())
		return err
	})
	return png
}

// Shot is a picture of the whole page.
func (tab *Tab) Shot() (png []byte) {
	tab.t.Helper()
	tab.call(func(ctx context.Context) (err error) {
		png, err = chromedp.Run(ctx, chromedp.FullScreenshot(100))
		return err
	})
	return png
}
