package storetest

import "strings"

// Payloads are JSON texts that change when they are decoded and encoded again,
// by name. A receiver must get exactly these bytes.
func Payloads() map[string][]byte {
	texts := map[string]string{
		"null":                     `null`,
		"empty object":             `{}`,
		"empty text":               `""`,
		"white space all around":   " \t\r\n {\r\n\t\"a\" :  1 ,\n\n \"b\":[ ] } \n",
		"duplicate keys":           `{"a":1,"a":2,"A":3,"a":{"a":1,"a":1}}`,
		"order of keys":            `{"z":1,"a":2,"m":3,"10":4,"9":5}`,
		"large integer":            `{"id":12345678901234567890123456789}`,
		"number with a zero":       `[1.0, 1.10, -0, -0.0, 0e0, 1E5, 1e+5]`,
		"number out of range":      `[1e400, -1e400, 1e-400]`,
		"many digits":              `0.1000000000000000055511151231257827021181583404541015625`,
		"HTML":                     `"<script>alert('&amp;')</script>"`,
		"escapes":                  `"\u0041\/\"\\\b\f\n\r\t\u00e9\u003c"`,
		"line separators":          "\"a\u2028b\u2029c\"",
		"byte order mark":          "\"\ufeffa\"",
		"escaped NUL":              `"a\u0000b"`,
		"lone surrogates":          `["\ud800", "\udc00x", "\udfff\ud800"]`,
		"surrogate pair":           `"\ud83d\ude00"`,
		"beyond the first plane":   `"😀𝒳"`,
		"composed and decomposed":  "\"\u00e9 e\u0301\"",
		"deep":                     strings.Repeat("[", 900) + strings.Repeat("]", 900),
		"form's own signs":         `"a+b=c&d;e%20f?g#h"`,
		"quotes of other tongues":  `"'; DROP TABLE events; -- $1 ?1 :a"`,
		"deleted and other unseen": "\"\u007f\u0080\u200b\u202e\"",
	}
	payloads := map[string][]byte{}
	for name, text := range texts {
		payloads[name] = []byte(text)
	}
	payloads["large"] = []byte(`"` + strings.Repeat("0123456789abcdef", 40_000) + `"`)
	return payloads
}
