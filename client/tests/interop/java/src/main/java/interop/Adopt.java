package interop;

import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentLinkedQueue;

import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * Fills a broker and later finds everything again, possibly in another broker on the same directory.
 *
 * <p>Usage: {@code Adopt NAMESRV NOTES STEP ...}. NOTES is a file that remembers what was sent. Steps: {@code fill}
 * creates topics, sends and consumes a part; {@code messages} looks at every message by offset, id and key and at the ends
 * of all queues; {@code check} does, and looks at the group's offsets; {@code consume} lets the group consume what is left, exactly; {@code more} sends
 * to all queues again; {@code delivered} waits for the delayed message.
 */
public final class Adopt {
    private static final String GROUP = "adopt-group";
    private static final String DELAYED = "adopt-delayed";
    private static final String CONSUMED = "adopt-a";
    /** Topic to number of queues. */
    private static final Map<String, Integer> TOPICS = new TreeMap<>(Map.of(CONSUMED, 4, "adopt-b", 1, "adopt-c", 8));
    private static final int PER_QUEUE = 80;
    private static final int MORE_PER_QUEUE = 20;
    private static final int LIMIT = 64;
    private static final int TOPIC_NOT_EXIST = 17;

    private final DefaultMQProducer producer;
    private DefaultMQPullConsumer puller;
    private final String namesrv;
    private final Path notes;

    /** A message that was sent: where it went and how to find it. */
    private static final class Sent {
        final String topic;
        final int queue;
        final long offset;
        final String offsetId;
        final String uniqueId;
        final String key;

        Sent(String line) {
            String[] fields = line.split(" ");
            topic = fields[0];
            queue = Integer.parseInt(fields[1]);
            offset = Long.parseLong(fields[2]);
            offsetId = fields[3];
            uniqueId = fields[4];
            key = fields[5];
        }

        void check(MessageExt found, String how) {
            Check.equal(topic + "/" + queue + "/" + offset,
                found.getTopic() + "/" + found.getQueueId() + "/" + found.getQueueOffset(), "place of " + key + " by " + how);
            Check.equal(key, found.getKeys(), "key of the message by " + how);
            Check.equal(tag(key), found.getTags(), "tag of the message by " + how);
            Check.equal(body(key), new String(found.getBody(), StandardCharsets.UTF_8), "body of the message by " + how);
        }
    }

    private Adopt(String namesrv, Path notes) throws Exception {
        this.namesrv = namesrv;
        this.notes = notes;
        producer = new DefaultMQProducer("adopt-producer");
        producer.setNamesrvAddr(namesrv);
        producer.start();
        startPuller();
    }

    private void startPuller() throws Exception {
        puller = new DefaultMQPullConsumer(GROUP);
        puller.setNamesrvAddr(namesrv);
        puller.start();
    }

    public static void main(String[] args) throws Exception {
        // The clients' threads would keep a program alive that has failed.
        Thread.setDefaultUncaughtExceptionHandler((thread, e) -> {
            e.printStackTrace();
            Runtime.getRuntime().halt(1);
        });
        Adopt adopt = new Adopt(args[0], Path.of(args[1]));
        for (int i = 2; i < args.length; i++) {
            long begun = System.nanoTime();
            adopt.step(args[i]);
            System.out.println("PASS " + args[i] + " (" + (System.nanoTime() - begun) / 1_000_000 + " ms)");
        }
        System.exit(0);
    }

    private void step(String name) throws Exception {
        switch (name) {
            case "fill":
                fill();
                break;
            case "check":
                check();
                break;
            case "messages":
                messages();
                break;
            case "consume":
                consume();
                break;
            case "more":
                send(MORE_PER_QUEUE, "more");
                break;
            case "delivered":
                Await.until("the delayed message is delivered", () -> delayedMessages() == 2);
                break;
            default:
                throw new IllegalArgumentException("no such step: " + name);
        }
    }

    private static String tag(String key) {
        return "tag" + Math.floorMod(key.hashCode(), 3);
    }

    private static String body(String key) {
        return ("body of " + key + " ").repeat(1 + Math.floorMod(key.hashCode(), 40));
    }

    private void fill() throws Exception {
        for (Map.Entry<String, Integer> topic : TOPICS.entrySet()) {
            Generation.createTopic(producer, topic.getKey(), topic.getValue());
        }
        Generation.createTopic(producer, DELAYED, 1);
        send(PER_QUEUE, "first");
        // Level 1 is one second, level 4 half a minute: one is delivered here, the other is not.
        for (int level : new int[] {1, 4}) {
            Message message = new Message(DELAYED, ("delayed " + level).getBytes(StandardCharsets.UTF_8));
            message.setDelayTimeLevel(level);
            Check.stored(producer.send(message));
        }
        Await.until("one delayed message is delivered", () -> delayedMessages() == 1);
        for (MessageQueue queue : queues(CONSUMED)) {
            long offset = 10 * (queue.getQueueId() + 1);
            // A group comes into being with its first pull.
            Check.equal(PullStatus.FOUND, puller.pull(queue, "*", 0, (int) offset).getPullStatus(), "first pull");
            puller.getOffsetStore().updateConsumeOffsetToBroker(queue, offset, false);
            Check.equal(offset, puller.fetchConsumeOffset(queue, true), "offset that was just committed");
        }
        save(committed());
    }

    private long delayedMessages() throws Exception {
        long count = 0;
        for (MessageQueue queue : queues(DELAYED)) {
            count += producer.maxOffset(queue) - producer.minOffset(queue);
        }
        return count;
    }

    private void send(int perQueue, String name) throws Exception {
        List<String> all = Files.exists(notes) ? new ArrayList<>(Files.readAllLines(notes)) : new ArrayList<>();
        // No two rounds have the same keys.
        String round = name + all.size();
        for (String topic : TOPICS.keySet()) {
            List<MessageQueue> queues = queues(topic);
            Check.equal((int) TOPICS.get(topic), queues.size(), "queues of " + topic);
            for (int i = 0; i < perQueue; i++) {
                for (MessageQueue queue : queues) {
                    String key = round + "-" + topic + "-" + queue.getQueueId() + "-" + i;
                    Message message = new Message(topic, tag(key), key, body(key).getBytes(StandardCharsets.UTF_8));
                    SendResult result = Check.stored(producer.send(message, queue));
                    all.add(String.join(" ", topic, Integer.toString(queue.getQueueId()), Long.toString(result.getQueueOffset()),
                        result.getOffsetMsgId(), result.getMsgId(), key));
                }
            }
        }
        Files.write(notes, all);
    }

    private List<MessageQueue> queues(String topic) throws Exception {
        List<MessageQueue> queues = new ArrayList<>();
        Await.until("a route to " + topic, () -> queues.addAll(routed(topic)));
        queues.sort(Comparator.comparing(MessageQueue::getQueueId));
        return queues;
    }

    /** None while a broker that has just started is not known to the name server yet. */
    private List<MessageQueue> routed(String topic) throws Exception {
        try {
            return producer.fetchPublishMessageQueues(topic);
        } catch (MQClientException e) {
            Throwable cause = e.getCause();
            if (cause instanceof MQClientException && ((MQClientException) cause).getResponseCode() == TOPIC_NOT_EXIST) {
                return List.of();
            }
            throw e;
        }
    }

    private List<Sent> sent() throws Exception {
        List<Sent> sent = new ArrayList<>();
        for (String line : Files.readAllLines(notes)) {
            sent.add(new Sent(line));
        }
        return sent;
    }

    /** The group's offsets by queue, as the broker says. */
    private Map<Integer, Long> committed() throws Exception {
        Map<Integer, Long> committed = new TreeMap<>();
        for (MessageQueue queue : queues(CONSUMED)) {
            committed.put(queue.getQueueId(), puller.fetchConsumeOffset(queue, true));
        }
        return committed;
    }

    private Path committedNotes() {
        return Path.of(notes + ".offsets");
    }

    private void save(Map<Integer, Long> committed) throws Exception {
        Files.writeString(committedNotes(), committed.toString());
    }

    private void check() throws Exception {
        messages();
        Check.equal(Files.readString(committedNotes()), committed().toString(), "committed offsets");
        System.out.println("offsets " + committed());
    }

    private void messages() throws Exception {
        Map<String, Map<Long, Sent>> byQueue = new LinkedHashMap<>();
        List<Sent> sent = sent();
        for (Sent message : sent) {
            byQueue.computeIfAbsent(message.topic + " " + message.queue, k -> new TreeMap<>()).put(message.offset, message);
        }
        for (String topic : TOPICS.keySet()) {
            for (MessageQueue queue : queues(topic)) {
                checkQueue(queue, byQueue.remove(topic + " " + queue.getQueueId()));
            }
        }
        Check.equal(List.of(), List.copyOf(byQueue.keySet()), "queues that are gone");
        // The key index may follow the log at a distance.
        Sent last = sent.get(sent.size() - 1);
        Await.until("the last key is indexed", () -> !query(last).isEmpty());
        for (Sent message : sent) {
            message.check(producer.viewMessage(message.topic, message.offsetId), "offset id");
            message.check(producer.viewMessage(message.topic, message.uniqueId), "unique id");
            List<MessageExt> found = query(message);
            Check.equal(1, found.size(), "messages with key " + message.key);
            message.check(found.get(0), "key");
        }
        System.out.println(sent.size() + " messages by offset, offset id, unique id and key");
    }

    private List<MessageExt> query(Sent message) throws Exception {
        try {
            return producer.queryMessage(message.topic, message.key, LIMIT, 0, System.currentTimeMillis()).getMessageList();
        } catch (MQClientException nothing) {
            return List.of();
        }
    }

    private void checkQueue(MessageQueue queue, Map<Long, Sent> expected) throws Exception {
        Check.equal(0L, producer.minOffset(queue), "smallest offset of " + queue);
        Check.equal((long) expected.size(), producer.maxOffset(queue), "largest offset of " + queue);
        long at = 0;
        while (at < expected.size()) {
            PullResult result = puller.pull(queue, "*", at, 32);
            Check.equal(PullStatus.FOUND, result.getPullStatus(), "pull at " + at + " of " + queue);
            for (MessageExt message : result.getMsgFoundList()) {
                expected.get(at).check(message, "offset " + at);
                at++;
            }
        }
    }

    private void consume() throws Exception {
        TreeSet<String> expected = new TreeSet<>();
        Map<Integer, Long> from = committed();
        for (Sent message : sent()) {
            if (message.topic.equals(CONSUMED) && message.offset >= from.get(message.queue)) {
                expected.add(message.key);
            }
        }
        // As a member of the group it would be given queues.
        puller.shutdown();
        ConcurrentLinkedQueue<String> found = new ConcurrentLinkedQueue<>();
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(GROUP);
        consumer.setInstanceName("push");
        consumer.setNamesrvAddr(namesrv);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.setHeartbeatBrokerInterval(Session.HEARTBEAT_INTERVAL_MS);
        // Otherwise it may end before the last offsets are counted.
        consumer.setAwaitTerminationMillisWhenShutdown(5_000);
        consumer.subscribe(CONSUMED, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            messages.forEach(message -> found.add(message.getKeys()));
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        Await.until("all the rest is consumed", () -> found.size() >= expected.size());
        consumer.shutdown();
        startPuller();
        Check.equal(expected, new TreeSet<>(found), "messages that the group resumed with");
        Check.equal(expected.size(), found.size(), "messages that the group resumed with, each once");
        Map<Integer, Long> committed = committed();
        for (MessageQueue queue : queues(CONSUMED)) {
            Check.equal(producer.maxOffset(queue), committed.get(queue.getQueueId()), "offset after consuming " + queue);
        }
        save(committed);
        System.out.println("the group went on with " + expected.size() + " messages");
    }
}
