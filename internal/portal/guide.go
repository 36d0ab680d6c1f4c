package portal

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"slices"
	"strings"
	texttemplate "text/template"
	"time"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"

	"postrider"
)

// The guide is ours; the receivers are copies of docs/receivers, which cannot
// be compiled in from there, since one of them is a Go module of its own. A
// test holds the copies to the originals.
//
//go:embed guide
var guideFiles embed.FS

// A receiver is a documented program that takes webhooks.
type receiver struct {
	Key   string
	Name  string
	Text  template.HTML
	Files []receiverFile
}

type receiverFile struct{ Name, Content string }

// receiverNames are in the order in which they are shown.
var receiverNames = []option{
	{"node-express", "Node.js with Express"},
	{"python", "Python"},
	{"php", "PHP"},
	{"go", "Go"},
	{"standard-webhooks", "Standard Webhooks library"},
}

// A guide is the documentation under the running brand, made once.
type guide struct {
	text      template.HTML
	headings  []heading
	overview  template.HTML // of the receivers
	receivers []receiver
}

type heading struct{ ID, Text string }

// guideFacts are what the guide's text is filled with.
type guideFacts struct {
	Brand    string
	URL      string // of the API
	Timeout  string
	Schedule []string
	Retries  int
	Whole    string // how long all retries take
}

// Header is the full name of a header of ours.
func (g guideFacts) Header(name string) string { return "X-" + g.Brand + "-" + name }

func newGuide(o *Options) *guide {
	facts := guideFacts{
		Brand: o.Brand, URL: o.PublicURL, Timeout: duration(o.Timeout), Schedule: waits(o.RetrySchedule), Retries: len(o.RetrySchedule),
	}
	var whole time.Duration
	for _, wait := range o.RetrySchedule {
		whole += wait
	}
	facts.Whole = duration(whole)
	if facts.URL == "" {
		facts.URL = "https://api.example.com"
	}
	g := &guide{}
	source := executeText(mustRead("guide/guide.md"), facts)
	g.text, g.headings = ownMarkdown(source), headingsOf(source)
	rebrand := strings.NewReplacer("Clubmed", o.Brand)
	read := func(name string) string { return rebrand.Replace(string(mustRead(name))) }
	g.overview = ownMarkdown(localLinks(cutTitle(read("guide/receivers/README.md.txt"))))
	for _, o := range receiverNames {
		g.receivers = append(g.receivers, readReceiver(o, read))
	}
	return g
}

func readReceiver(o option, read func(string) string) receiver {
	r := receiver{Key: o.Value, Name: o.Label}
	dir := "guide/receivers/" + o.Value
	entries, err := fs.ReadDir(guideFiles, dir)
	if err != nil {
		panic("portal: " + err.Error()) // compiled in
	}
	for _, entry := range entries {
		name, content := strings.TrimSuffix(entry.Name(), ".txt"), read(path.Join(dir, entry.Name()))
		if name == "README.md" {
			r.Text = ownMarkdown(localLinks(cutTitle(content)))
			continue
		}
		r.Files = append(r.Files, receiverFile{name, content})
	}
	// The program itself stands before what it is built with.
	slices.SortStableFunc(r.Files, func(a, b receiverFile) int { return len(b.Content) - len(a.Content) })
	return r
}

func mustRead(name string) []byte {
	content, err := guideFiles.ReadFile(name)
	if err != nil {
		panic("portal: " + err.Error()) // compiled in
	}
	return content
}

func executeText(source []byte, data any) []byte {
	var text bytes.Buffer
	t := texttemplate.Must(texttemplate.New("guide").Funcs(texttemplate.FuncMap{"join": strings.Join}).Parse(string(source)))
	if err := t.Execute(&text, data); err != nil {
		panic("portal: " + err.Error()) // our own text
	}
	return text.Bytes()
}

// ownMarkdown is for texts that come with the program.
func ownMarkdown[T ~string | ~[]byte](source T) template.HTML {
	m := goldmark.New(goldmark.WithExtensions(extension.GFM), goldmark.WithParserOptions(parser.WithAutoHeadingID()))
	var html bytes.Buffer
	if err := m.Convert([]byte(source), &html); err != nil {
		panic("portal: " + err.Error())
	}
	text := strings.ReplaceAll(html.String(), "<table>", `<div class="scroll" tabindex="0" role="group" aria-label="Table"><table>`)
	text = strings.ReplaceAll(text, "</table>", "</table></div>")
	text = strings.ReplaceAll(text, "<th></th>", "<td></td>") // a corner heads nothing
	text = strings.ReplaceAll(text, "<pre>", `<pre tabindex="0" class="copyable">`)
	return template.HTML(text) //nolint:gosec // our own text
}

// headingsOf are those of the second level, for the list beside the text. The
// ids are those that goldmark gives.
func headingsOf(source []byte) (list []heading) {
	fenced := false
	for line := range strings.Lines(string(source)) {
		if strings.HasPrefix(line, "```") {
			fenced = !fenced
		}
		if text, found := strings.CutPrefix(strings.TrimSpace(line), "## "); found && !fenced {
			id := strings.Map(func(r rune) rune {
				switch {
				case r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '_':
					return r
				case r == ' ':
					return '-'
				}
				return -1
			}, strings.ToLower(text))
			list = append(list, heading{id, text})
		}
	}
	return list
}

// cutTitle takes a page's own title off: ours stands above it.
func cutTitle(text string) string {
	if strings.HasPrefix(text, "# ") {
		_, text, _ = strings.Cut(text, "\n")
	}
	return text
}

// localLinks points links between the files of docs/receivers at our pages.
func localLinks(text string) string {
	for _, o := range receiverNames {
		text = strings.ReplaceAll(text, "]("+o.Value+"/)", "](/docs/receivers/"+o.Value+")")
		for _, file := range []string{"server.js", "main.go", "receiver.py", "receiver.php"} {
			text = strings.ReplaceAll(text, "]("+o.Value+"/"+file+")", "](/docs/receivers/"+o.Value+")")
		}
	}
	return strings.ReplaceAll(text, "](../README.md", "](/docs/receivers")
}

type guidePage struct {
	Text     template.HTML
	Headings []heading
}

func (p *Portal) showGuide(v *visit) error {
	return p.show(v, "guide", "Guide", guidePage{p.guide.text, p.guide.headings})
}

type docsEventsPage struct{ Types []postrider.EventType }

func (p *Portal) docsEvents(v *visit) error {
	types, _ := p.o.Catalogue.EventTypes("", maxCatalogue)
	return p.show(v, "docsevents", "Events", docsEventsPage{types})
}

func (p *Portal) docsEvent(v *visit) error {
	data, err := p.eventType(v)
	if err != nil {
		return err
	}
	return p.show(v, "docsevent", data.Type.Name, data)
}

type receiversPage struct {
	Text      template.HTML
	Receivers []receiver
	One       *receiver
}

func (p *Portal) docsReceivers(v *visit) error {
	return p.show(v, "receivers", "Receivers", receiversPage{Text: p.guide.overview, Receivers: p.guide.receivers})
}

func (p *Portal) docsReceiver(v *visit) error {
	for i := range p.guide.receivers {
		if r := &p.guide.receivers[i]; r.Key == v.r.PathValue("name") {
			p.render(v, http.StatusOK, "receivers", "", fmt.Sprintf("Receiver: %s", r.Name),
				receiversPage{Receivers: p.guide.receivers, One: r})
			return nil
		}
	}
	return postrider.Missing("page")
}
