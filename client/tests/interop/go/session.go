package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	rocketmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/admin"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
)

// runName makes names unique: runs may share a broker, and a broker keeps topics and offsets.
var runName = strconv.FormatInt(time.Now().UnixMilli(), 36) + "_" + strconv.Itoa(os.Getpid())

var nameCount int

// administration is what the scenarios need of the client's admin, whose type is not exported.
type administration interface {
	CreateTopic(ctx context.Context, options ...admin.OptionCreate) error
	FetchPublishMessageQueues(ctx context.Context, topic string) ([]*primitive.MessageQueue, error)
	FetchAllTopicList(ctx context.Context) (*admin.TopicList, error)
	Close() error
}

// session is what one scenario works with: names that no other run uses, and clients that are shut down at its end.
type session struct {
	namesrv  primitive.NamesrvAddr
	scenario string
	closers  []func() error
	started  rocketmq.Producer
	admin    administration
	broker   string
}

func newSession(namesrv, scenario string) *session {
	return &session{namesrv: primitive.NamesrvAddr{namesrv}, scenario: scenario}
}

func (s *session) close() {
	for i := len(s.closers) - 1; i >= 0; i-- {
		if err := s.closers[i](); err != nil {
			fmt.Fprintf(os.Stderr, "while closing %s: %v\n", s.scenario, err)
		}
	}
}

// name makes a new name of a topic, group or client.
func (s *session) name(kind string) string {
	nameCount++
	return fmt.Sprintf("%s_%s_go_%s_%d", s.scenario, kind, runName, nameCount)
}

// topic names a topic that does not exist yet: the first send creates it.
func (s *session) topic() string {
	return s.name("topic")
}

// createdTopic makes a topic through the client's administration, which wants to be told the broker's address.
func (s *session) createdTopic(queues int) string {
	topic := s.topic()
	err := s.administration().CreateTopic(context.Background(), admin.WithTopicCreate(topic),
		admin.WithBrokerAddrCreate(s.brokerAddress()), admin.WithReadQueueNums(queues), admin.WithWriteQueueNums(queues))
	must(err, "create topic")
	await(fmt.Sprintf("the route of %s shows %d queues", topic, queues), long, func() bool {
		return len(s.publishQueues(topic)) == queues
	})
	return topic
}

// publishQueues asks the name server which queues a producer may send to; none while there is no route.
func (s *session) publishQueues(topic string) []*primitive.MessageQueue {
	queues, err := s.administration().FetchPublishMessageQueues(context.Background(), topic)
	if err != nil {
		return nil
	}
	return queues
}

func (s *session) administration() administration {
	if s.admin == nil {
		created, err := admin.NewAdmin(admin.WithResolver(primitive.NewPassthroughResolver(s.namesrv)))
		must(err, "make an admin")
		s.closers = append(s.closers, created.Close)
		s.admin = created
	}
	return s.admin
}

// brokerAddress reads the address out of the id of a message that was stored there.
func (s *session) brokerAddress() string {
	if s.broker == "" {
		result := checkStored(s.producer().SendSync(context.Background(), s.message(s.topic(), "TagA", 0)))
		id, err := primitive.UnmarshalMsgID([]byte(result.OffsetMsgID))
		must(err, "read the message id "+result.OffsetMsgID)
		s.broker = fmt.Sprintf("%s:%d", id.Addr, id.Port)
	}
	return s.broker
}

// producer sends to the queue a message names, else to all in turn.
func (s *session) producer() rocketmq.Producer {
	if s.started == nil {
		created, err := rocketmq.NewProducer(producer.WithNameServer(s.namesrv), producer.WithGroupName(s.name("producers")),
			producer.WithInstanceName(s.name("producer")), producer.WithSendMsgTimeout(15*time.Second),
			producer.WithQueueSelector(namedQueueOrNext{next: producer.NewRoundRobinQueueSelector()}))
		must(err, "make a producer")
		must(created.Start(), "start a producer")
		s.closers = append(s.closers, created.Shutdown)
		s.started = created
	}
	return s.started
}

type namedQueueOrNext struct {
	next producer.QueueSelector
}

func (n namedQueueOrNext) Select(message *primitive.Message, queues []*primitive.MessageQueue, lastBroker string) *primitive.MessageQueue {
	if message.Queue != nil {
		return message.Queue
	}
	return n.next.Select(message, queues, lastBroker)
}

// consumerOptions are those of a new member of the group, which reads from the first message on.
func (s *session) consumerOptions(group string, more ...consumer.Option) []consumer.Option {
	// Two members in one process need two names, else they would share one connection and one identity.
	return append([]consumer.Option{consumer.WithNameServer(s.namesrv), consumer.WithGroupName(group),
		consumer.WithInstance(s.name("member")), consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset)}, more...)
}

// messages makes messages that differ in everything a message can carry.
func (s *session) messages(topic string, from, count int) []*primitive.Message {
	var messages []*primitive.Message
	for i := from; i < from+count; i++ {
		messages = append(messages, s.message(topic, "Tag"+string(rune('A'+i%3)), i))
	}
	return messages
}

func (s *session) message(topic, tag string, number int) *primitive.Message {
	body := fmt.Sprintf("body %d of %s – Grüße, 你好 ☃", number, s.scenario)
	message := primitive.NewMessage(topic, []byte(body)).WithTag(tag).WithKeys([]string{fmt.Sprintf("key-%d", number)})
	message.Flag = int32(number * 7)
	message.WithProperty("number", strconv.Itoa(number))
	message.WithProperty("text", fmt.Sprintf("a=b; ü \"quoted\" %d", number))
	return message
}

// sendToAllQueues sends numbered messages to the topic's queues in turn.
func (s *session) sendToAllQueues(topic string, from, count int) []*primitive.Message {
	queues := s.publishQueues(topic)
	messages := s.messages(topic, from, count)
	for i, message := range messages {
		message.Queue = queues[(from+i)%len(queues)]
		checkStored(s.producer().SendSync(context.Background(), message))
	}
	return messages
}
