package config

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"postrider"
)

// Options are how every flag of the program reads its text, the same on the
// command line, in the environment and in the file. Every parser of flags is
// built with it.
//
// It also keeps kong from reading the environment: kong puts the offending
// text into its errors, reads variables of commands that were not called, and
// lets a file outrank them. Load does it instead.
func Options() kong.Option {
	return kong.OptionFunc(func(k *kong.Kong) error {
		for _, option := range []kong.Option{
			kong.TypeMapper(reflect.TypeFor[postrider.Secret](), kong.MapperFunc(readSecret)),
			kong.TypeMapper(reflect.TypeFor[string](), one(asIs)),
			kong.TypeMapper(reflect.TypeFor[int](), one(strconv.Atoi)),
			kong.TypeMapper(reflect.TypeFor[int64](), one(func(s string) (int64, error) { return strconv.ParseInt(s, 10, 64) })),
			kong.TypeMapper(reflect.TypeFor[float64](), one(finite)),
			kong.TypeMapper(reflect.TypeFor[time.Duration](), one(time.ParseDuration)),
			kong.TypeMapper(reflect.TypeFor[[]time.Duration](), list(time.ParseDuration)),
			kong.TypeMapper(reflect.TypeFor[[]netip.Prefix](), list(netip.ParsePrefix)),
			kong.TypeMapper(reflect.TypeFor[[]uint16](), list(port)),
			kong.TypeMapper(reflect.TypeFor[[]string](), list(asIs)),
			kong.PostBuild(func(k *kong.Kong) error { forgetVariables(k.Model.Node); return nil }),
		} {
			if err := option.Apply(k); err != nil {
				return err
			}
		}
		return nil
	})
}

func forgetVariables(node *kong.Node) {
	for _, flag := range node.Flags {
		flag.Tag.Envs = nil
	}
	for _, child := range node.Children {
		forgetVariables(child)
	}
}

// forms say how a value is written, for the errors of those that are not.
var forms = map[reflect.Type]string{
	reflect.TypeFor[int]():           "whole number",
	reflect.TypeFor[int64]():         "whole number",
	reflect.TypeFor[float64]():       "number",
	reflect.TypeFor[time.Duration](): "duration such as 5s, 5m or 24h",
	reflect.TypeFor[uint16]():        "port from 1 to 65535",
	reflect.TypeFor[netip.Prefix]():  "address range such as 10.0.0.0/8",
}

func asIs(s string) (string, error) { return s, nil }

func port(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if n == 0 {
		err = strconv.ErrRange
	}
	return uint16(n), err
}

func finite(s string) (float64, error) {
	n, err := strconv.ParseFloat(s, 64)
	if math.IsNaN(n) || math.IsInf(n, 0) {
		err = strconv.ErrRange
	}
	return n, err
}

// one reads a value.
func one[T any](parse func(string) (T, error)) kong.MapperFunc {
	return func(ctx *kong.DecodeContext, target reflect.Value) error {
		text, err := popText(ctx.Scan)
		if err != nil {
			return err
		}
		value, err := parse(text)
		if err != nil {
			return fmt.Errorf("%q is no %s", text, forms[target.Type()])
		}
		target.Set(reflect.ValueOf(value))
		return nil
	}
}

// list reads values with commas between them, and adds them to those that are
// there: a flag may be repeated, and a list of the file has an element a line.
// With sep:"none" a comma is a letter like others.
func list[T any](parse func(string) (T, error)) kong.MapperFunc {
	return func(ctx *kong.DecodeContext, target reflect.Value) error {
		// A flag has one text, and all that is left is a positional argument's.
		for more := true; more; more = ctx.Value.Flag == nil && ctx.Scan.Peek().IsValue() {
			text, err := popText(ctx.Scan)
			if err != nil {
				return err
			}
			parts := []string{text}
			if ctx.Value.Tag.Sep != -1 {
				parts = strings.Split(text, ",")
			}
			for _, part := range parts {
				if part = strings.TrimSpace(part); part == "" {
					continue
				}
				value, err := parse(part)
				if err != nil {
					return fmt.Errorf("%q is no %s", part, forms[target.Type().Elem()])
				}
				target.Set(reflect.Append(target, reflect.ValueOf(value)))
			}
		}
		return nil
	}
}

func popText(scan *kong.Scanner) (string, error) {
	token, err := scan.PopValue("a")
	if err != nil {
		return "", errors.New("has no value")
	}
	return token.String(), nil
}

// readSecret is silent about the text that it was given.
func readSecret(ctx *kong.DecodeContext, target reflect.Value) error {
	token := ctx.Scan.Pop()
	if !token.IsValue() {
		return errors.New("has no value; one that begins with a dash is written with an equals sign, --flag=-value")
	}
	target.SetString(token.String())
	return nil
}
