package main

import (
	"context"
	"math/rand"
	"strconv"
	"strings"
	"sync"

	"github.com/apache/rocketmq-client-go/v2/primitive"
)

const (
	sendCount = 24
	mebibyte  = 1 << 20
)

func sendSync(s *session) {
	topic := s.topic()
	sent := s.messages(topic, 0, sendCount)
	var results []*primitive.SendResult
	for _, message := range sent {
		results = append(results, checkStored(s.producer().SendSync(context.Background(), message)))
	}
	s.consumeAndCompare(topic, sent, results)
}

func sendAsync(s *session) {
	topic := s.topic()
	sent := s.messages(topic, 0, sendCount)
	// The first send creates the topic; the others may then all be under way at once.
	results := []*primitive.SendResult{checkStored(s.producer().SendSync(context.Background(), sent[0]))}
	var mutex sync.Mutex
	var failures []error
	for _, message := range sent[1:] {
		err := s.producer().SendAsync(context.Background(), func(_ context.Context, result *primitive.SendResult, err error) {
			mutex.Lock()
			defer mutex.Unlock()
			if err != nil {
				failures = append(failures, err)
			} else {
				results = append(results, result)
			}
		}, message)
		must(err, "send async")
	}
	await("all callbacks are called", long, func() bool {
		mutex.Lock()
		defer mutex.Unlock()
		return len(results)+len(failures) == sendCount
	})
	check(len(failures) == 0, "failed: %v", failures)
	for _, result := range results {
		checkStored(result, nil)
	}
	s.consumeAndCompare(topic, sent, results)
}

func sendOneway(s *session) {
	topic := s.createdTopic(4)
	sent := s.messages(topic, 0, sendCount)
	for _, message := range sent {
		must(s.producer().SendOneWay(context.Background(), message), "send one-way")
	}
	s.consumeAndCompare(topic, sent, nil)
}

func sendBatch(s *session) {
	topic := s.createdTopic(4)
	sent := s.messages(topic, 0, sendCount)
	result := checkStored(s.producer().SendSync(context.Background(), sent...))
	received := s.consumeAndCompare(topic, sent, nil)
	for _, message := range received {
		number, err := strconv.Atoi(message.GetProperty("number"))
		must(err, "read the number of a message")
		checkEqual(result.MessageQueue.QueueId, message.Queue.QueueId, "queue")
		checkEqual(result.QueueOffset+int64(number), message.QueueOffset, "queue offset")
	}
}

// sendLarge sends bodies of a megabyte: one that the client compresses, and one that cannot be compressed.
func sendLarge(s *session) {
	topic := s.topic()
	text := s.message(topic, "TagA", 0)
	text.Body = []byte(strings.Repeat("0123456789abcdef", mebibyte/16))
	random := s.message(topic, "TagA", 1)
	random.Body = randomBody(mebibyte)
	sent := []*primitive.Message{text, random}
	var results []*primitive.SendResult
	for _, message := range sent {
		results = append(results, checkStored(s.producer().SendSync(context.Background(), message)))
	}
	for _, message := range s.consumeAndCompare(topic, sent, results) {
		if message.GetProperty("number") == "0" {
			check(message.StoreSize < mebibyte/10, "stored bytes of the text: %d", message.StoreSize)
		}
	}
}

func randomBody(bytes int) []byte {
	body := make([]byte, bytes)
	rand.New(rand.NewSource(int64(bytes))).Read(body)
	return body
}

func (s *session) consumeAndCompare(topic string, sent []*primitive.Message, results []*primitive.SendResult) []*primitive.MessageExt {
	received := s.collect(s.name("group"), topic, "*").await(len(sent))
	checkSameMessages(sent, received)
	byID := map[string]*primitive.MessageExt{}
	for _, message := range received {
		byID[message.MsgId] = message
	}
	for _, result := range results {
		message := byID[result.MsgID]
		check(message != nil, "acknowledged but not received: %v", result)
		checkEqual(result.MessageQueue.QueueId, message.Queue.QueueId, "queue")
		checkEqual(result.QueueOffset, message.QueueOffset, "queue offset")
		checkEqual(result.OffsetMsgID, message.OffsetMsgId, "offset id")
	}
	return received
}
