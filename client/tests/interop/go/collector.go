package main

import (
	"context"
	"fmt"
	"sync"

	rocketmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
)

// collector is a member of a consumer group that keeps what it receives, in the order of arrival.
type collector struct {
	consumer rocketmq.PushConsumer
	mutex    sync.Mutex
	received []*primitive.MessageExt
}

// collect starts a member; tags is an expression such as `TagA || TagB`, or `*`.
func (s *session) collect(group, topic, tags string, options ...consumer.Option) *collector {
	push, err := rocketmq.NewPushConsumer(s.consumerOptions(group, options...)...)
	must(err, "make a push consumer")
	c := &collector{consumer: push}
	selector := consumer.MessageSelector{Type: consumer.TAG, Expression: tags}
	err = push.Subscribe(topic, selector, func(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		c.mutex.Lock()
		defer c.mutex.Unlock()
		c.received = append(c.received, messages...)
		return consumer.ConsumeSuccess, nil
	})
	must(err, "subscribe")
	must(push.Start(), "start a push consumer")
	s.closers = append(s.closers, push.Shutdown)
	return c
}

// leave commits offsets and leaves the group.
func (c *collector) leave() {
	must(c.consumer.Shutdown(), "shut a push consumer down")
}

func (c *collector) messages() []*primitive.MessageExt {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return append([]*primitive.MessageExt(nil), c.received...)
}

// await waits for count deliveries and returns all there are: more than that if some came twice.
func (c *collector) await(count int) []*primitive.MessageExt {
	await(fmt.Sprintf("%d messages arrive", count), long, func() bool { return len(c.messages()) >= count })
	return c.messages()
}
