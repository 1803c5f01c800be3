package main

import (
	"fmt"
	"time"

	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
)

const (
	pushQueues = 4
	pushCount  = 40
	// takeOver: clients look for changes of their group every 20 s; only a notification by the broker is faster.
	takeOver = 2 * time.Second
)

func pushClusteringWithRebalance(s *session) {
	topic := s.createdTopic(pushQueues)
	group := s.name("group")
	stays := s.collect(group, topic, "*")
	leaves := s.collect(group, topic, "*")
	// The client does not tell which queues a member owns, so it is seen by one message to each queue.
	next := 0
	await("two members own two of four queues each", long, func() bool {
		before, all := len(stays.messages()), len(stays.messages())+len(leaves.messages())
		s.sendToAllQueues(topic, next, pushQueues)
		next += pushQueues
		await("each queue is consumed", long, func() bool {
			return len(stays.messages())+len(leaves.messages()) >= all+pushQueues
		})
		return len(stays.messages())-before == pushQueues/2
	})

	sent := s.sendToAllQueues(topic, next, pushCount)
	next += pushCount
	await("both members together receive all", long, func() bool {
		return len(from(sent, stays))+len(from(sent, leaves)) >= pushCount
	})
	checkSameMessages(sent, append(from(sent, stays), from(sent, leaves)...))
	checkEqual(pushCount/2, len(from(sent, stays)), "messages of the first member")

	leaves.leave()
	left := time.Now()
	after := s.sendToAllQueues(topic, next, pushCount)
	await("the survivor receives all new messages", takeOver-time.Since(left), func() bool {
		return len(from(after, stays)) >= pushCount
	})
	checkSameMessages(after, from(after, stays))
}

// from returns those deliveries to a member that belong to the given messages.
func from(sent []*primitive.Message, member *collector) []*primitive.MessageExt {
	keys := map[string]bool{}
	for _, message := range sent {
		keys[message.GetKeys()] = true
	}
	var found []*primitive.MessageExt
	for _, message := range member.messages() {
		if keys[message.GetKeys()] {
			found = append(found, message)
		}
	}
	return found
}

func pushBroadcasting(s *session) {
	topic := s.createdTopic(pushQueues)
	group := s.name("group")
	first := s.collect(group, topic, "*", consumer.WithConsumerModel(consumer.BroadCasting))
	second := s.collect(group, topic, "*", consumer.WithConsumerModel(consumer.BroadCasting))
	sent := s.sendToAllQueues(topic, 0, pushCount)
	checkSameMessages(sent, first.await(pushCount))
	checkSameMessages(sent, second.await(pushCount))
}

func pushTagFilter(s *session) {
	// One queue: once its last message has arrived, what was filtered out cannot follow.
	topic := s.createdTopic(1)
	sent := s.sendToAllQueues(topic, 0, 10)
	var wanted []*primitive.Message
	for _, message := range sent {
		if message.GetTags() == "TagA" || message.GetTags() == "TagB" {
			wanted = append(wanted, message)
		}
	}
	checkEqual("TagA", sent[9].GetTags(), "tag of the last message")
	checkSameMessages(wanted, s.collect(s.name("group"), topic, "TagA || TagB").await(len(wanted)))
	checkSameMessages(sent, s.collect(s.name("group"), topic, "*").await(len(sent)))
}

func pushOrderly(s *session) {
	topic := s.createdTopic(pushQueues)
	sent := s.sendToAllQueues(topic, 0, pushCount)
	received := s.collect(s.name("group"), topic, "*", consumer.WithConsumerOrder(true)).await(pushCount)
	checkSameMessages(sent, received)
	next := map[int]int64{}
	for _, message := range received {
		queue := message.Queue.QueueId
		checkEqual(next[queue], message.QueueOffset, fmt.Sprintf("next offset of queue %d", queue))
		next[queue]++
	}
	checkEqual(pushQueues, len(next), "queues received from")
}

func pushOffsetResume(s *session) {
	topic := s.createdTopic(pushQueues)
	group := s.name("group")
	before := s.sendToAllQueues(topic, 0, pushCount)
	first := s.collect(group, topic, "*")
	checkSameMessages(before, first.await(pushCount))
	first.leave()

	after := s.sendToAllQueues(topic, pushCount, pushCount)
	restarted := s.collect(group, topic, "*")
	await("the restarted group receives all new messages", long, func() bool {
		return len(from(after, restarted)) >= pushCount
	})
	checkSameMessages(after, from(after, restarted))
	// This client does not wait for its handlers when it shuts down, so the last few may come again.
	repeated := len(from(before, restarted))
	check(repeated < pushCount/2, "the group did not resume: %d of %d old messages came again", repeated, pushCount)
}
