package postrider

import "errors"

// An ExportTable is a kind of row that moves from store to store: what it is
// called, and its columns in the order of a row's values. Stores keep rows in
// forms of their own; between them a value is nil, a string, bytes, an int64 or
// a float64, as its column's kind says.
type ExportTable struct {
	Name    string
	Columns []ExportColumn
}

// An ExportColumn is one value of a row.
type ExportColumn struct {
	Name string
	Kind ExportKind
}

// An ExportKind says what a column's values are.
type ExportKind byte

// The kinds of columns.
const (
	ExportText  ExportKind = iota // a string
	ExportRaw                     // a string of any bytes
	ExportBytes                   // bytes
	ExportID                      // 16 bytes
	ExportInt                     // an int64
	ExportBool                    // an int64, 0 or 1
	ExportTime                    // an int64, microseconds since 1970
	ExportFloat                   // a float64
	ExportJSON                    // a string, any JSON
	ExportTexts                   // a string, a JSON array of strings
	ExportInts                    // a string, a JSON array of whole numbers
)

// ExportTables are all that moves, in their order. Sessions of browsers and
// claims of nodes do not: they end with the server.
//
// This is the export's format, too: a change is a new version of it.
var ExportTables = []ExportTable{
	{"tenants", []ExportColumn{{"name", ExportText}, {"paused", ExportBool}, {"created_at", ExportTime}}},
	{"api_keys", []ExportColumn{
		{"id", ExportID},
		{"tenant_id", ExportText},
		{"name", ExportText},
		{"prefix", ExportText},
		{"hash", ExportBytes},
		{"created_at", ExportTime},
	}},
	{"event_types", []ExportColumn{
		{"name", ExportText},
		{"description", ExportText},
		{"notes", ExportText},
		{"schema", ExportBytes},
		{"example", ExportBytes},
		{"deprecated", ExportBool},
		{"created_at", ExportTime},
		{"updated_at", ExportTime},
	}},
	// What is sealed stays so: the target has the source's key.
	{"webhooks", []ExportColumn{
		{"tenant_id", ExportText},
		{"id", ExportID},
		{"url", ExportText},
		{"content_type", ExportText},
		{"sealed", ExportBytes},
		{"events", ExportTexts},
		{"active", ExportBool},
		{"description", ExportText},
		{"insecure_ssl", ExportBool},
		{"timeout", ExportInt},
		{"retry_schedule", ExportInts},
		{"max_in_flight", ExportInt},
		{"rate_limit", ExportFloat},
		{"ordered", ExportBool},
		{"paused", ExportBool},
		{"failing_since", ExportTime},
		{"failing_warned", ExportInt},
		{"disabled_at", ExportTime},
		{"disabled_code", ExportText},
		{"disabled_reason", ExportText},
		{"created_at", ExportTime},
		{"updated_at", ExportTime},
		{"deleted_at", ExportTime},
	}},
	{"events", []ExportColumn{
		{"tenant_id", ExportText},
		{"id", ExportText},
		{"type", ExportText},
		{"occurred_at", ExportTime},
		{"created_at", ExportTime},
		{"deliveries", ExportInt},
		{"payload", ExportBytes},
	}},
	// In the order in which each webhook's are sent. The last two are the
	// event's, which some stores keep here too.
	{"queue", []ExportColumn{
		{"tenant_id", ExportText},
		{"event_id", ExportText},
		{"webhook_id", ExportID},
		{"trigger", ExportText},
		{"attempts", ExportInt},
		{"retries", ExportInt},
		{"accepted_at", ExportTime},
		{"due_at", ExportTime},
		{"event_created_at", ExportTime},
		{"size", ExportInt},
	}},
	{"fanouts", []ExportColumn{
		{"tenant_id", ExportText}, {"event_id", ExportText}, {"after", ExportID}, {"event_created_at", ExportTime},
	}},
	{"attempts", []ExportColumn{
		{"tenant_id", ExportText},
		{"id", ExportID},
		{"webhook_id", ExportID},
		{"event_id", ExportText},
		{"event_type", ExportText},
		{"number", ExportInt},
		{"trigger", ExportText},
		{"at", ExportTime},
		{"url", ExportText},
		{"status", ExportText},
		{"status_code", ExportInt},
		{"failure", ExportText},
		{"detail", ExportText},
		{"next_attempt_at", ExportTime},
		{"remote_ip", ExportText},
		{"tls_version", ExportText},
		{"dns", ExportInt},
		{"connect", ExportInt},
		{"tls", ExportInt},
		{"first_byte", ExportInt},
		{"total", ExportInt},
		{"truncated", ExportBool},
		{"request_header", ExportRaw},
		{"response_header", ExportRaw},
		{"response_body", ExportBytes},
	}},
	{"replays", []ExportColumn{
		{"tenant_id", ExportText},
		{"id", ExportID},
		{"webhook_id", ExportID},
		{"from_at", ExportTime},
		{"to_at", ExportTime},
		{"status", ExportText},
		{"events", ExportTexts},
		{"dry_run", ExportBool},
		{"rate", ExportFloat},
		{"state", ExportText},
		{"after", ExportID},
		{"total", ExportInt},
		{"queued", ExportInt},
		{"skipped", ExportInt},
		{"open", ExportBool},
		{"created_at", ExportTime},
		{"ended_at", ExportTime},
	}},
	{"replay_deliveries", []ExportColumn{
		{"tenant_id", ExportText},
		{"replay_id", ExportID},
		{"accepted_at", ExportTime},
		{"event_id", ExportText},
		{"attempts", ExportInt},
	}},
	{"idempotency_keys", []ExportColumn{
		{"scope", ExportText}, {"key", ExportText}, {"body_hash", ExportBytes}, {"answer", ExportJSON}, {"expires_at", ExportTime},
	}},
	// A sum's webhook is the zero id.
	{"tallies", []ExportColumn{
		{"tenant_id", ExportText},
		{"webhook_id", ExportID},
		{"minute", ExportInt},
		{"successes", ExportInt},
		{"failures", ExportInt},
		{"to_5", ExportInt},
		{"to_10", ExportInt},
		{"to_25", ExportInt},
		{"to_50", ExportInt},
		{"to_100", ExportInt},
		{"to_250", ExportInt},
		{"to_500", ExportInt},
		{"to_1000", ExportInt},
		{"to_2500", ExportInt},
		{"to_5000", ExportInt},
		{"to_10000", ExportInt},
		{"above", ExportInt},
	}},
}

// An ExportBatch are rows of one table, one after another of the export.
type ExportBatch struct {
	Table *ExportTable
	Rows  [][]any
}

// Errors of a move from store to store that whoever starts it can mend.
var (
	ErrNoStore      = errors.New("there is no store")
	ErrNotEmpty     = errors.New("the target is not empty")
	ErrInUse        = errors.New("a server is running on this database")
	ErrUnreachable  = errors.New("the database cannot be reached")
	ErrOtherKey     = errors.New("the encryption key is not the source's")
	ErrNoExport     = errors.New("this is no export of postrider")
	ErrOtherVersion = errors.New("the export is of another version than this postrider reads")
	ErrDamaged      = errors.New("the export is cut off or damaged")
)
