package main

import (
	"bytes"
	"fmt"
	"time"

	"github.com/apache/rocketmq-client-go/v2/primitive"
)

// long is how long anything may take; generous, because it only matters when a scenario fails.
const long = 30 * time.Second

// failure ends a scenario; it is thrown by the checks and caught by run.
type failure string

func check(holds bool, format string, args ...any) {
	if !holds {
		panic(failure(fmt.Sprintf(format, args...)))
	}
}

func checkEqual[T comparable](expected, actual T, what string) {
	check(expected == actual, "%s: expected %v, got %v", what, expected, actual)
}

func must(err error, what string) {
	check(err == nil, "%s: %v", what, err)
}

// await polls a condition until it holds or the limit has passed.
func await(what string, limit time.Duration, condition func() bool) {
	deadline := time.Now().Add(limit)
	for !condition() {
		check(time.Now().Before(deadline), "not within %v: %s", limit, what)
		time.Sleep(5 * time.Millisecond)
	}
}

func checkStored(result *primitive.SendResult, err error) *primitive.SendResult {
	must(err, "send")
	checkEqual(primitive.SendOK, result.Status, "send status")
	check(result.QueueOffset >= 0, "queue offset of the send result is %d", result.QueueOffset)
	return result
}

// checkSameMessages: what was received is what was sent, each message exactly once, with everything it carries.
func checkSameMessages(sent []*primitive.Message, received []*primitive.MessageExt) {
	checkEqual(len(sent), len(received), "number of messages")
	byKey := map[string]*primitive.Message{}
	for _, message := range sent {
		byKey[message.GetKeys()] = message
	}
	checkEqual(len(sent), len(byKey), "number of different keys")
	for _, message := range received {
		original := byKey[message.GetKeys()]
		check(original != nil, "received twice, or never sent: %v", message)
		delete(byKey, message.GetKeys())
		checkSameMessage(original, message)
	}
}

func checkSameMessage(sent *primitive.Message, received *primitive.MessageExt) {
	which := " of the message with key " + sent.GetKeys()
	checkEqual(sent.Topic, received.Topic, "topic"+which)
	check(bytes.Equal(sent.Body, received.Body), "body differs%s", which)
	checkEqual(sent.GetTags(), received.GetTags(), "tag"+which)
	checkEqual(sent.Flag, received.Flag, "flag"+which)
	for _, property := range []string{"number", "text"} {
		checkEqual(sent.GetProperty(property), received.GetProperty(property), "property "+property+which)
	}
}
