//go:build ignore

// Writes matchers.json: how Alertmanager itself reads matchers. Run it with the go.mod and go.sum of
// tests/controlplane/build/alertmanager beside it: `GOFLAGS=-mod=mod go run matchers.go > matchers.json`.

package main

import (
	"encoding/json"
	"io"
	"log/slog"
	"math/rand"
	"os"
	"strings"

	"github.com/prometheus/alertmanager/matcher/compat"
)

type Case struct {
	Text     string     `json:"text"`
	Matchers [][]string `json:"matchers"` // name, operator, value; null: not valid
}

var written = []string{
	`a="b"`, `a=b`, ` a = "b" `, `a!="b"`, `a=~"b.+"`, `a!~"b|c"`, `a=`, `a=""`, `a:b_1="c"`, `a`, ``, `{}`, `{`, `}`, `=`, `="a"`,
	`{a="b"}`, `{a="b",}`, `{a="b",c=~"d"}`, `a="b",c="d"`, `a="b", c!~"d" ,e=f`, `a=b,c=d`, `a="b",`, `{a="b"`, `a="b"}`, `{ a="b" }`, ` {a="b"} `,
	`a="b" c="d"`, `a="b",,c="d"`, `,a="b"`, `{,}`, `{a="b"}}`, `{a="b"} x`, `{{a="b"}}`, `a="b,c"`, `a="{b}"`, `a={b}`,
	`"a"="b"`, `"host.name"="x"`, `"host.name"=~"a\\.b"`, `"host.name"=~"a\.b"`, `host.name=x`, `host.name="x"`, `host-name!=x`, `1a="b"`,
	`"a b"="c d"`, `a b="c"`, `"ä"="ö"`, `ä=ö`, `a="ö"`, `a=🙂`, `🙂="b"`, `"\u00e4"="\U0001F642"`, `"a"="\x41"`, `"a"="\101"`, `"a"="\xff"`,
	`"a"="\ud800"`, `"a"="\'"`, `"a"="\q"`, `"a"="\t"`, `a="\t"`, `a="\\t"`, `a="\d+"`, `a=~"\d+"`, `a=~"\\d+"`, `a="say \"hi\""`, `"a"="say \"hi\""`,
	`a="b`, `a=b"`, `a="b\"`, `a="\\"`, `"a="b"`, `""="b"`, "a=\"b\nc\"", "\"a\"=\"b\nc\"", "a=\"b\"\n,\tc=\"d\"", `a="b",c.d="\t"`, `a="b","c.d"="\n"`,
	`a!b`, `a~b`, `a=~b`, `a!~b`, `a=~"a|b"`, `a=~"a.*(b|c)"`, `a ="b"`, `a= b`, `a="b"c`, `a= "b" `, "a=\u00a0b", "\u2003a=b", "a\u0085=b",
}

var pieces = []string{`a`, `b.c`, `"a"`, `"b c"`, `=`, `!=`, `=~`, `!~`, `,`, `{`, `}`, ` `, `\`, `"`, `x y`, `"x\"y"`, `"\\"`, `ä`, `"\n"`}

func main() {
	logger := slog.New(slog.NewTextHandler(io.Discard, nil))
	read := compat.FallbackMatchersParser(logger)
	r := rand.New(rand.NewSource(13))
	texts := append([]string{}, written...)
	for i := 0; i < 400; i++ {
		var b strings.Builder
		for j := 0; j <= r.Intn(9); j++ {
			b.WriteString(pieces[r.Intn(len(pieces))])
		}
		texts = append(texts, b.String())
	}
	for i := 0; i < 200; i++ {
		var b strings.Builder
		names, operators := []string{`a`, `"a b"`, `c.d`}, []string{`=`, `!=`, `=~`, `!~`}
		values := []string{`b`, `"x y"`, `"\"q\""`, `"\w"`, `ä`, `"\\n,"`, `""`, `a.b`}
		for j := 0; j <= r.Intn(4); j++ {
			if j > 0 {
				b.WriteString([]string{`,`, ` , `, ` `}[r.Intn(3)])
			}
			b.WriteString(names[r.Intn(3)] + operators[r.Intn(4)] + values[r.Intn(len(values))])
		}
		texts = append(texts, b.String())
	}
	cases := []Case{}
	for _, text := range texts {
		one := Case{Text: text}
		if found, err := read(text, "table"); err == nil {
			one.Matchers = [][]string{}
			for _, m := range found {
				one.Matchers = append(one.Matchers, []string{m.Name, m.Type.String(), m.Value})
			}
		}
		cases = append(cases, one)
	}
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(cases)
}
