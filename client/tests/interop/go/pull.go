package main

import (
	"context"
	"fmt"
	"time"

	rocketmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
)

const (
	pullCount = 20
	pageSize  = 7
)

func pullByOffset(s *session) {
	topic := s.createdTopic(1)
	sent := s.sendToAllQueues(topic, 0, pullCount)
	queue := s.publishQueues(topic)[0]
	pull := s.pullConsumer(topic)

	var received []*primitive.MessageExt
	for offset := int64(3); offset < pullCount; {
		page := pullFrom(pull, queue, offset)
		checkEqual(primitive.PullFound, page.Status, fmt.Sprintf("status at offset %d", offset))
		checkEqual(0, page.MinOffset, "min offset")
		checkEqual(pullCount, page.MaxOffset, "max offset")
		checkEqual(offset, page.GetMessageExts()[0].QueueOffset, "first offset of the page")
		offset += int64(len(page.GetMessageExts()))
		checkEqual(offset, page.NextBeginOffset, "next offset")
		received = append(received, page.GetMessageExts()...)
	}
	checkSameMessages(sent[3:], received)

	beyond := pullFrom(pull, queue, pullCount+1000)
	checkEqual(primitive.PullOffsetIllegal, beyond.Status, "status beyond the end")
	checkEqual(pullCount, beyond.NextBeginOffset, "offset to correct to")

	// At the end of the queue the broker holds the pull until a message arrives.
	held := make(chan *primitive.PullResult, 1)
	go func() {
		result, _ := pull.PullFrom(context.Background(), queue, pullCount, pageSize)
		held <- result
	}()
	select {
	case <-held:
		check(false, "a pull at the end of the queue was answered at once")
	case <-time.After(1500 * time.Millisecond): // That nothing happens can only be seen by waiting.
	}
	next := s.sendToAllQueues(topic, pullCount, 1)
	select {
	case result := <-held:
		check(result != nil, "the held pull failed")
		checkEqual(primitive.PullFound, result.Status, "status of the held pull")
		checkSameMessages(next, result.GetMessageExts())
	case <-time.After(2 * time.Second):
		check(false, "the held pull was not answered when a message arrived")
	}
}

func pullOffsetByTime(s *session) {
	topic := s.createdTopic(1)
	queue := s.publishQueues(topic)[0]
	for i := 0; i < 10; i++ {
		s.sendToAllQueues(topic, i, 1)
		// Store times are whole milliseconds: the next message must get a later one.
		time.Sleep(3 * time.Millisecond)
	}
	stored := s.collect(s.name("group"), topic, "*").await(10)
	pull := s.pullConsumer(topic)
	for _, message := range stored {
		offset, err := pull.OffsetForTimestamp(queue, message.StoreTimestamp)
		must(err, "offset for timestamp")
		checkEqual(message.QueueOffset, offset, "offset at the store time of a message")
	}
}

func (s *session) pullConsumer(topic string) rocketmq.PullConsumer {
	pull, err := rocketmq.NewPullConsumer(s.consumerOptions(s.name("group"))...)
	must(err, "make a pull consumer")
	must(pull.Subscribe(topic, consumer.MessageSelector{Type: consumer.TAG, Expression: "*"}), "subscribe")
	must(pull.Start(), "start a pull consumer")
	s.closers = append(s.closers, pull.Shutdown)
	return pull
}

func pullFrom(pull rocketmq.PullConsumer, queue *primitive.MessageQueue, offset int64) *primitive.PullResult {
	result, err := pull.PullFrom(context.Background(), queue, offset, pageSize)
	must(err, fmt.Sprintf("pull from offset %d", offset))
	return result
}
