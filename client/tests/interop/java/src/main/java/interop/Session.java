package interop;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.atomic.AtomicInteger;

import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageQueue;

/** What one scenario works with: names that no other run uses, and clients that are shut down at its end. */
final class Session implements AutoCloseable {
    private static final int SEND_TIMEOUT_MS = 15_000;
    /**
     * The clients' default, unless the environment says otherwise. The 5.x client raises its subscription version at
     * each rebalance and tells it with a heartbeat, which it drops if its periodic heartbeat happens at that moment.
     * RocketMQ then refuses its pulls (code 25) until the next one, so run.sh makes that soon for the control; ours
     * serves them.
     */
    static final int HEARTBEAT_INTERVAL_MS =
        Integer.parseInt(System.getenv().getOrDefault("INTEROP_HEARTBEAT_MS", "30000"));
    /** Makes names unique: runs of the programs may share a broker, and a broker keeps topics and offsets. */
    private static final String RUN = Long.toString(System.currentTimeMillis(), 36) + "_" + ProcessHandle.current().pid();
    private static final AtomicInteger NAMES = new AtomicInteger();

    private final String namesrv;
    private final String scenario;
    private final List<Runnable> closers = new ArrayList<>();
    private DefaultMQProducer producer;

    Session(String namesrv, String scenario) {
        this.namesrv = namesrv;
        this.scenario = scenario;
    }

    /** A new name of a topic, group or client. */
    String name(String kind) {
        return scenario + "_" + kind + "_" + RUN + "_" + NAMES.incrementAndGet();
    }

    /** A topic that does not exist yet: the first send creates it. */
    String topic() {
        return name("topic");
    }

    /** A topic that was created through the client's administration call. */
    String createdTopic(int queues) throws Exception {
        String topic = topic();
        Generation.createTopic(producer(), topic, queues);
        Await.until("topic " + topic + " has a route", () -> publishQueues(topic).size() == queues);
        return topic;
    }

    /** The queues that a producer may send to, as the name server tells them; none while there is no route. */
    List<MessageQueue> publishQueues(String topic) throws Exception {
        try {
            List<MessageQueue> queues = new ArrayList<>(producer().fetchPublishMessageQueues(topic));
            queues.sort(null);
            return queues;
        } catch (MQClientException noRoute) {
            return List.of();
        }
    }

    /** The producer of this scenario. */
    DefaultMQProducer producer() throws MQClientException {
        if (producer == null) {
            DefaultMQProducer started = new DefaultMQProducer(name("producers"));
            started.setNamesrvAddr(namesrv);
            started.setInstanceName(name("producer"));
            started.setSendMsgTimeout(SEND_TIMEOUT_MS);
            started.start();
            closeAtEnd(started::shutdown);
            producer = started;
        }
        return producer;
    }

    /** A push consumer that still needs a subscription and a listener; see {@link Collector}. */
    DefaultMQPushConsumer pushConsumer(String group) {
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(group);
        consumer.setNamesrvAddr(namesrv);
        // Two members in one process need two names, else they would share one connection and one identity.
        consumer.setInstanceName(name("member"));
        consumer.setHeartbeatBrokerInterval(HEARTBEAT_INTERVAL_MS);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        // Lets handlers end before the offsets are committed, so that a restart does not repeat messages.
        consumer.setAwaitTerminationMillisWhenShutdown(10_000);
        return consumer;
    }

    /** {@code count} messages that differ in everything a message can carry. */
    List<Message> messages(String topic, int count) {
        List<Message> messages = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            messages.add(message(topic, "Tag" + (char) ('A' + i % 3), i));
        }
        return messages;
    }

    Message message(String topic, String tag, int number) {
        byte[] body = ("body " + number + " of " + scenario + " – Grüße, 你好 ☃").getBytes(StandardCharsets.UTF_8);
        Message message = new Message(topic, tag, "key-" + number, body);
        message.setFlag(number * 7);
        message.putUserProperty("number", Integer.toString(number));
        message.putUserProperty("text", "a=b; ü \"quoted\" " + number);
        return message;
    }

    String namesrv() {
        return namesrv;
    }

    void closeAtEnd(Runnable closer) {
        closers.add(closer);
    }

    @Override
    public void close() {
        for (int i = closers.size() - 1; i >= 0; i--) {
            try {
                closers.get(i).run();
            } catch (RuntimeException e) {
                System.err.println("while closing " + scenario + ": " + e);
            }
        }
    }
}
