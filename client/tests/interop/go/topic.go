package main

import (
	"context"
	"slices"

	"github.com/apache/rocketmq-client-go/v2/primitive"
)

func topicCreate(s *session) {
	topic := s.createdTopic(5)
	sent := s.sendToAllQueues(topic, 0, 5)
	received := s.collect(s.name("group"), topic, "*").await(5)
	checkSameMessages(sent, received)
	used := map[int]bool{}
	for _, message := range received {
		used[message.Queue.QueueId] = true
	}
	checkEqual(5, len(used), "queues in use")

	list, err := s.administration().FetchAllTopicList(context.Background())
	must(err, "list topics")
	check(slices.Contains(list.TopicList, topic), "the name server's list has no %s", topic)
	checkEqual(0, len(s.publishQueues(s.topic())), "queues of a topic that does not exist")
}

// rejectTooLarge: a request that the broker must refuse with an answer, on a connection that goes on.
func rejectTooLarge(s *session) {
	topic := s.createdTopic(1)
	result, err := s.producer().SendSync(context.Background(), primitive.NewMessage(topic, randomBody(5*mebibyte)))
	check(err != nil || result.Status != primitive.SendOK, "a message of 5 MiB was accepted: %v", result)
	sent := s.sendToAllQueues(topic, 1, 3)
	checkSameMessages(sent, s.collect(s.name("group"), topic, "*").await(len(sent)))
}
