package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	rocketmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
)

const (
	sendEvery = 5 * time.Millisecond
	// settled: younger messages need not be on an asynchronous slave yet.
	settled = time.Second
	// slowCache: messages of a queue that the slow group keeps waiting; far less than what comes while it is held.
	slowCache, pairQueues = 8, 4
	// failoverLimit is longer than the half minute after which this client asks for a route again.
	failoverLimit = 90 * time.Second
)

// failoverRun sends and consumes all the time, while a master is killed and started again by somebody else. It is
// the twin of Failover.java, which explains the arguments; this client polls nothing.
type failoverRun struct {
	namesrv      primitive.NamesrvAddr
	topic, name  string
	phase, pair  string
	mutex        sync.Mutex
	sent, onPair map[string]time.Time
	troubles     map[string]int
	sendErrors   int
	failed       int
}

// deliveries are the keys that a group has received, and how often one came again.
type deliveries struct {
	mutex sync.Mutex
	seen  map[string]bool
	again int
}

func failover(arguments []string) int {
	if len(arguments) != 5 {
		fmt.Fprintln(os.Stderr, "usage: interop failover NAMESRV TOPIC NAME PHASE BROKER")
		return 2
	}
	run := &failoverRun{
		namesrv: strings.Split(arguments[0], ";"), topic: arguments[1], name: arguments[2],
		phase: arguments[3], pair: arguments[4],
		sent: map[string]time.Time{}, onPair: map[string]time.Time{}, troubles: map[string]int{},
	}
	return run.run()
}

func (r *failoverRun) run() int {
	created, err := rocketmq.NewProducer(producer.WithNameServer(r.namesrv), producer.WithGroupName(r.name+"-producer"),
		producer.WithInstanceName(r.name+"-producer"))
	must(err, "make a producer")
	must(created.Start(), "start a producer")
	group, push := r.push(r.name+"-push", 256, nil)
	// A new group of this client needs a master to begin. This one begins now, and is behind when the master goes down.
	var gate sync.Mutex
	slow, slowPush := r.push(r.name+"-slow", slowCache, &gate)

	stop, sender := make(chan struct{}), sync.WaitGroup{}
	sender.Add(1)
	go func() {
		defer sender.Done()
		r.send(created, stop)
	}()
	done, held := "", ""
	for {
		text, err := os.ReadFile(r.phase)
		must(err, "read the phase")
		now := strings.Fields(string(text))
		if now[0] == "end" {
			break
		}
		if now[0] == "hold" && held != now[1] {
			held = now[1]
			gate.Lock()
		}
		if now[0] == "slave" && now[1] != done {
			done = now[1]
			gate.Unlock()
			r.fromSlave(slow)
			must(os.WriteFile(r.phase+"."+done+"."+r.name, nil, 0o644), "say that it is done")
		}
		time.Sleep(50 * time.Millisecond)
	}
	close(stop)
	sender.Wait()

	missing := group.missing(r.sent, failoverLimit)
	figures := fmt.Sprintf("%d different messages, %d came again", len(group.seen), group.again)
	if len(missing) > 0 {
		figures += fmt.Sprintf(", %d are missing, for example %v", len(missing), missing[:min(5, len(missing))])
	}
	r.report(len(missing) == 0, "every message that was sent is consumed by callback", figures)
	fmt.Printf("%s: %d sends were OK, %d of them to %s\n", r.name, len(r.sent), len(r.onPair), r.pair)
	for what, count := range r.troubles {
		fmt.Printf("     %d x %s\n", count, what)
	}
	r.report(r.sendErrors == 0, "no send fails at the application", fmt.Sprintf("%d failed", r.sendErrors))
	must(push.Shutdown(), "shut a consumer down")
	must(slowPush.Shutdown(), "shut a consumer down")
	if r.failed > 0 {
		return 1
	}
	return 0
}

// push starts a group that keeps at most so many messages of a queue waiting; a gate that is locked stops it.
func (r *failoverRun) push(group string, cache int, gate *sync.Mutex) (*deliveries, rocketmq.PushConsumer) {
	push, err := rocketmq.NewPushConsumer(consumer.WithNameServer(r.namesrv), consumer.WithGroupName(group),
		consumer.WithInstance(group), consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset),
		consumer.WithPullBatchSize(int32(cache)), consumer.WithPullThresholdForQueue(int64(cache)))
	must(err, "make a push consumer")
	all := &deliveries{seen: map[string]bool{}}
	callback := func(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		if gate != nil {
			// Passing is all that is wanted.
			gate.Lock()
			gate.Unlock() //nolint:staticcheck // see above
		}
		all.mutex.Lock()
		defer all.mutex.Unlock()
		for _, message := range messages {
			if all.seen[message.GetKeys()] {
				all.again++
			}
			all.seen[message.GetKeys()] = true
		}
		return consumer.ConsumeSuccess, nil
	}
	must(push.Subscribe(r.topic, consumer.MessageSelector{Type: consumer.TAG, Expression: "*"}, callback), "subscribe")
	must(push.Start(), "start a push consumer")
	return all, push
}

func (d *deliveries) count() int {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	return len(d.seen)
}

// lacks returns the keys that have not come, in order.
func (d *deliveries) lacks(wanted map[string]time.Time) []string {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	var missing []string
	for key := range wanted {
		if !d.seen[key] {
			missing = append(missing, key)
		}
	}
	slices.Sort(missing)
	return missing
}

// missing waits until all wanted messages have come, and returns those that have not.
func (d *deliveries) missing(wanted map[string]time.Time, limit time.Duration) []string {
	deadline := time.Now().Add(limit)
	for {
		missing := d.lacks(wanted)
		if len(missing) == 0 || time.Now().After(deadline) {
			return missing
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (r *failoverRun) send(to rocketmq.Producer, stop chan struct{}) {
	for number := 0; ; number++ {
		select {
		case <-stop:
			return
		case <-time.After(sendEvery):
		}
		key := fmt.Sprintf("%s-%d", r.name, number)
		message := primitive.NewMessage(r.topic, []byte("body of "+key)).WithKeys([]string{key})
		result, err := to.SendSync(context.Background(), message)
		r.mutex.Lock()
		switch {
		case err != nil:
			r.sendErrors++
			r.troubles["send: "+err.Error()]++
		case result.Status != primitive.SendOK:
			r.troubles[fmt.Sprintf("send status %d", result.Status)]++
		default:
			r.sent[key] = time.Now()
			if result.MessageQueue.BrokerName == r.pair {
				r.onPair[key] = time.Now()
			}
		}
		r.mutex.Unlock()
	}
}

// fromSlave: a group that was behind gets from the slave what both brokers of the pair have.
func (r *failoverRun) fromSlave(slow *deliveries) {
	wanted, begun, before := map[string]time.Time{}, time.Now(), slow.count()
	r.mutex.Lock()
	for key, sent := range r.onPair {
		if begun.Sub(sent) > settled {
			wanted[key] = sent
		}
	}
	r.mutex.Unlock()
	behind := slow.lacks(wanted)
	missing := slow.missing(wanted, failoverLimit)
	took := time.Since(begun).Milliseconds()
	// What the client had fetched already proves nothing.
	holds := len(missing) == 0 && len(behind) > 2*pairQueues*slowCache
	r.report(holds, fmt.Sprintf("a group that is behind reads from the slave while the master is down (%d ms)", took),
		fmt.Sprintf("it had %d messages and lacked %d of the pair, %d are missing", before, len(behind), len(missing)))
}

func (r *failoverRun) report(holds bool, what, figures string) {
	verdict := "PASS"
	if !holds {
		verdict = "FAIL"
		r.failed++
	}
	fmt.Printf("%s %s: %s: %s\n", verdict, r.name, what, figures)
}
