//go:build ignore

// Writes time_intervals.json: what Alertmanager itself says of random time intervals. Run it with the go.mod and go.sum of
// tests/controlplane/build/alertmanager beside it: `GOFLAGS=-mod=mod go run time_intervals.go > time_intervals.json`.

package main

import (
	"encoding/json"
	"fmt"
	"math/rand"
	"os"
	"time"

	"github.com/prometheus/alertmanager/timeinterval"
	"gopkg.in/yaml.v2"
)

type Case struct {
	Interval map[string]any `json:"interval"`
	Moments  []int64        `json:"moments"` // minutes since the epoch
	Contains string         `json:"contains"`
}

var days = []string{"sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"}
var months = []string{"january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december"}
var zones = []string{"Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Chatham", "UTC"}

func hm(m int) string { return fmt.Sprintf("%02d:%02d", m/60, m%60) }

func main() {
	r := rand.New(rand.NewSource(13))
	var cases []Case
	for len(cases) < 120 {
		iv := map[string]any{}
		if r.Intn(3) > 0 {
			var ts []map[string]string
			for i := 0; i <= r.Intn(3); i++ {
				a := r.Intn(1440)
				b := a + 1 + r.Intn(1440-a)
				ts = append(ts, map[string]string{"start_time": hm(a), "end_time": hm(b)})
			}
			iv["times"] = ts
		}
		if r.Intn(2) == 0 {
			a := r.Intn(7)
			b := a + r.Intn(7-a)
			iv["weekdays"] = []string{days[a] + ":" + days[b]}
		}
		if r.Intn(2) == 0 {
			iv["days_of_month"] = []string{fmt.Sprint(1+r.Intn(31)) + ":" + fmt.Sprint(r.Intn(63)-31), fmt.Sprint(-31 + r.Intn(31))}
		}
		if r.Intn(3) == 0 {
			a := r.Intn(12)
			b := a + r.Intn(12-a)
			iv["months"] = []string{months[a] + ":" + fmt.Sprint(b+1)}
		}
		if r.Intn(3) == 0 {
			iv["years"] = []string{"2026:2028", "2031"}
		}
		if r.Intn(4) > 0 {
			iv["location"] = zones[r.Intn(len(zones))]
		}
		text, _ := yaml.Marshal(iv)
		var ti timeinterval.TimeInterval
		if err := yaml.Unmarshal(text, &ti); err != nil {
			continue
		}
		c := Case{Interval: iv}
		for i := 0; i < 40; i++ {
			t := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(r.Int63n(6*366*24*60)) * time.Minute)
			if i%4 == 0 { // around the changes of the clocks and the ends of months
				t = time.Date(2026+r.Intn(4), []time.Month{2, 3, 4, 10, 11, 12}[r.Intn(6)], 25+r.Intn(8), r.Intn(24), r.Intn(60), 0, 0, time.UTC)
			}
			c.Moments = append(c.Moments, t.Unix()/60)
			if ti.ContainsTime(t) {
				c.Contains += "1"
			} else {
				c.Contains += "0"
			}
		}
		cases = append(cases, c)
	}
	json.NewEncoder(os.Stdout).Encode(cases)
}
