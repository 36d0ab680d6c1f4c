package portal

import (
	"bytes"
	"fmt"
	"html/template"
	"regexp"

	"github.com/microcosm-cc/bluemonday"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/extension"

	"postrider"
)

// maxCatalogue bounds how many event types a page lists.
const maxCatalogue = 500

var markdown = goldmark.New(goldmark.WithExtensions(extension.GFM))

// notesPolicy lets through what notes need and nothing that acts or loads:
// no images, no styles, links only to where a reader can see that they lead.
var notesPolicy = newNotesPolicy()

func newNotesPolicy() *bluemonday.Policy {
	policy := bluemonday.NewPolicy()
	policy.AllowElements("p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "strong", "em", "del", "code", "pre", "blockquote",
		"ul", "ol", "li", "table", "thead", "tbody", "tr", "th", "td")
	policy.AllowAttrs("href").OnElements("a")
	policy.AllowURLSchemes("https", "http", "mailto")
	policy.AllowRelativeURLs(false)
	policy.RequireNoFollowOnLinks(true)
	policy.RequireNoReferrerOnLinks(true)
	policy.AllowAttrs("class").Matching(regexp.MustCompile(`^language-[a-z0-9]+$`)).OnElements("code")
	return policy
}

// renderMarkdown makes HTML of what a stranger wrote.
func renderMarkdown(text string) template.HTML {
	var html bytes.Buffer
	if err := markdown.Convert([]byte(visible(text)), &html); err != nil {
		return template.HTML("<p>" + template.HTMLEscapeString(text) + "</p>") //nolint:gosec // escaped
	}
	return template.HTML(notesPolicy.SanitizeBytes(html.Bytes())) //nolint:gosec // sanitised
}

type cataloguePage struct {
	Types []postrider.EventType
	More  bool
}

func (p *Portal) listCatalogue(v *visit) error {
	types, more := p.o.Catalogue.EventTypes("", maxCatalogue)
	return p.show(v, "catalogue", "Catalogue", cataloguePage{types, more})
}

type eventTypePage struct {
	Type    postrider.EventType
	Notes   template.HTML
	Schema  string
	Example string
	Takers  int // webhooks of the tenant that subscribe
}

func (p *Portal) eventType(v *visit) (eventTypePage, error) {
	t, err := p.o.Catalogue.EventType(v.r.PathValue("event"))
	if err != nil {
		return eventTypePage{}, err
	}
	data := eventTypePage{Type: t, Notes: renderMarkdown(t.Notes)}
	if len(t.Schema) > 0 {
		data.Schema = prettyJSON(t.Schema)
	}
	if len(t.Example) > 0 {
		data.Example = prettyJSON(t.Example)
	}
	return data, nil
}

func (p *Portal) showEventType(v *visit) error {
	data, err := p.eventType(v)
	if err != nil {
		return err
	}
	webhooks, _ := p.o.Webhooks.Webhooks(v.tenant, postrider.ID{}, lookedAt)
	for i := range webhooks {
		if webhooks[i].Subscribes(data.Type.Name) {
			data.Takers++
		}
	}
	return p.show(v, "eventtype", data.Type.Name, data)
}

// sendExample publishes an event type's example to the tenant, and to nobody
// else: what its webhooks get is what a real event would look like.
func (p *Portal) sendExample(v *visit) error {
	t, err := p.o.Catalogue.EventType(v.r.PathValue("event"))
	if err != nil {
		return err
	}
	back := v.base + "/catalogue/" + t.Name
	if len(t.Example) == 0 {
		p.say(v, flash{Text: "This event type has no example to send.", Bad: true})
		return v.redirect(back)
	}
	receipts, err := p.o.Publisher.Publish(v.r.Context(), []postrider.Publication{
		{Event: t.Name, Payload: t.Example, Tenant: v.tenant},
	}, nil)
	if e, found := shown(err); found {
		p.say(v, flash{Text: e.Detail, Bad: true})
		return v.redirect(back)
	}
	if err != nil {
		return err
	}
	if receipts[0].Deliveries == 0 {
		p.say(v, flash{Text: "None of your webhooks subscribes to this event, so nobody was sent it.", Bad: true})
		return v.redirect(back)
	}
	p.say(v, flash{Text: fmt.Sprintf("The example is on its way to %s.", plural(receipts[0].Deliveries, "webhook"))})
	return v.redirect(v.base + "/events/" + receipts[0].ID + "?live=1")
}
