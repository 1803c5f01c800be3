package interop;

import java.util.ArrayList;
import java.util.List;
import java.util.Queue;
import java.util.Set;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.stream.Collectors;

import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** A member of a consumer group that keeps what it receives, in the order of arrival. */
final class Collector {
    private final DefaultMQPushConsumer consumer;
    private final String topic;
    private final Queue<MessageExt> received = new ConcurrentLinkedQueue<>();

    private Collector(DefaultMQPushConsumer consumer, String topic) {
        this.consumer = consumer;
        this.topic = topic;
    }

    /** Starts a member that shares the topic's queues with the other members. */
    static Collector clustering(Session session, String group, String topic, String tags) throws MQClientException {
        return concurrent(session, session.pushConsumer(group), topic, tags);
    }

    /** Starts a member that receives every message, whatever other members do. */
    static Collector broadcasting(Session session, String group, String topic) throws MQClientException {
        DefaultMQPushConsumer consumer = session.pushConsumer(group);
        Generation.broadcast(consumer);
        return concurrent(session, consumer, topic, "*");
    }

    /** Starts a member that locks its queues and handles each in order. */
    static Collector orderly(Session session, String group, String topic) throws MQClientException {
        Collector collector = new Collector(session.pushConsumer(group), topic);
        collector.consumer.registerMessageListener((MessageListenerOrderly) (messages, context) -> {
            collector.received.addAll(messages);
            return ConsumeOrderlyStatus.SUCCESS;
        });
        return collector.start(session, "*");
    }

    private static Collector concurrent(Session session, DefaultMQPushConsumer consumer, String topic, String tags)
        throws MQClientException {
        Collector collector = new Collector(consumer, topic);
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            collector.received.addAll(messages);
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        return collector.start(session, tags);
    }

    private Collector start(Session session, String tags) throws MQClientException {
        consumer.subscribe(topic, tags);
        consumer.start();
        session.closeAtEnd(consumer::shutdown);
        return this;
    }

    /** Waits for {@code count} deliveries and returns all there are: more than that if some came twice. */
    List<MessageExt> await(int count) throws Exception {
        try {
            Await.until(count + " messages of " + topic + " arrive", () -> received.size() >= count);
        } catch (AssertionError late) {
            throw new AssertionError(late.getMessage() + "; there are " + received.size());
        }
        return messages();
    }

    List<MessageExt> messages() {
        return new ArrayList<>(received);
    }

    int count() {
        return received.size();
    }

    /** The queues of the topic that this member owns now. */
    Set<MessageQueue> queues() {
        return consumer.getDefaultMQPushConsumerImpl().getRebalanceImpl().getProcessQueueTable().keySet().stream()
            .filter(queue -> queue.getTopic().equals(topic))
            .collect(Collectors.toSet());
    }

    /** Commits offsets and leaves the group. */
    void leave() {
        consumer.shutdown();
    }
}
