// Command interop runs scenarios with an unmodified Go client of RocketMQ.
//
// Usage: interop NAMESRV [SCENARIO ...], or interop failover ARGUMENT ... (see failover.go). Prints `PASS name` or `FAIL name: reason` for each, then
// `N passed, N failed`; exits with 0 only if none failed. The client logs to standard error.
//
// This client offers no query by key and no view by id; the Java programs cover those.
package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strings"
)

var scenarios = []struct {
	name string
	run  func(*session)
}{
	{"send-sync", sendSync},
	{"send-async", sendAsync},
	{"send-oneway", sendOneway},
	{"send-batch", sendBatch},
	{"send-large", sendLarge},
	{"push-clustering-rebalance", pushClusteringWithRebalance},
	{"push-broadcasting", pushBroadcasting},
	{"push-tag-filter", pushTagFilter},
	{"push-orderly", pushOrderly},
	{"push-offset-resume", pushOffsetResume},
	{"pull-by-offset", pullByOffset},
	{"pull-offset-by-time", pullOffsetByTime},
	{"topic-create", topicCreate},
	{"reject-too-large", rejectTooLarge},
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: interop NAMESRV [SCENARIO ...]; scenarios:", strings.Join(names(), " "))
		os.Exit(2)
	}
	if os.Args[1] == "failover" {
		os.Exit(failover(os.Args[2:]))
	}
	wanted := os.Args[2:]
	for _, name := range wanted {
		if !slices.Contains(names(), name) {
			fmt.Fprintln(os.Stderr, "no such scenario:", name)
			os.Exit(2)
		}
	}

	passed, failed := 0, 0
	for _, scenario := range scenarios {
		if len(wanted) > 0 && !slices.Contains(wanted, scenario.name) {
			continue
		}
		if reason := run(os.Args[1], scenario.name, scenario.run); reason == "" {
			passed++
			fmt.Println("PASS", scenario.name)
		} else {
			failed++
			fmt.Printf("FAIL %s: %s\n", scenario.name, reason)
		}
	}
	fmt.Printf("%d passed, %d failed\n", passed, failed)
	if failed > 0 {
		os.Exit(1)
	}
}

func names() []string {
	var all []string
	for _, scenario := range scenarios {
		all = append(all, scenario.name)
	}
	return all
}

// run returns why the scenario failed, or nothing.
func run(namesrv, name string, scenario func(*session)) (reason string) {
	s := newSession(namesrv, name)
	defer s.close()
	defer func() {
		if failure := recover(); failure != nil {
			reason, _, _ = strings.Cut(fmt.Sprint(failure), "\n")
			fmt.Fprintf(os.Stderr, "%s: %v\n%s", name, failure, debug.Stack())
		}
	}()
	scenario(s)
	return ""
}
