package interop;

import java.util.ArrayList;
import java.util.List;

import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** Finding single messages, and places in a queue. */
final class QueryScenarios {
    private static final int LIMIT = 64;
    private static final long HOUR_MS = 3_600_000;

    private QueryScenarios() {
    }

    static void byKey(Session session) throws Exception {
        String topic = session.createdTopic(4);
        String otherTopic = session.createdTopic(1);
        List<Message> shared = new ArrayList<>();
        for (int i = 0; i < 12; i++) {
            Message message = session.message(topic, "TagA", i);
            if (i % 3 == 0) {
                message.setKeys(List.of("order-7", "own-" + i));
                shared.add(message);
            }
            Check.stored(session.producer().send(message));
        }
        Message elsewhere = session.message(otherTopic, "TagA", 99);
        elsewhere.setKeys("order-7");
        Check.stored(session.producer().send(elsewhere));

        Await.until("key-11 is indexed", () -> !query(session, topic, "key-11").isEmpty());
        Check.sameMessages(shared, query(session, topic, "order-7"));
        Check.sameMessages(shared.subList(2, 3), query(session, topic, "own-6"));
        Await.until("the other topic is indexed", () -> !query(session, otherTopic, "order-7").isEmpty());
        Check.sameMessages(List.of(elsewhere), query(session, otherTopic, "order-7"));

        Check.equal(List.of(), query(session, topic, "order-8"), "messages with a key that was never sent");
        long now = System.currentTimeMillis();
        Check.equal(List.of(), query(session, topic, "order-7", LIMIT, now - 2 * HOUR_MS, now - HOUR_MS),
            "messages in a time before the first");
        Check.equal(2, query(session, topic, "order-7", 2, 0, now + HOUR_MS).size(), "messages when two are asked for");
    }

    static void byId(Session session) throws Exception {
        DefaultMQProducer producer = session.producer();
        String topic = session.topic();
        for (Message message : session.messages(topic, 6)) {
            SendResult result = Check.stored(producer.send(message));
            MessageExt byOffset = producer.viewMessage(topic, result.getOffsetMsgId());
            Check.sameMessage(message, byOffset);
            Check.equal(result.getQueueOffset(), byOffset.getQueueOffset(), "queue offset of the message viewed by offset id");
            // The client's own id is found through the key index, which follows the log.
            Await.until("the unique id is indexed", () -> viewOrNull(producer, topic, result.getMsgId()) != null);
            MessageExt byUniqueId = producer.viewMessage(topic, result.getMsgId());
            Check.sameMessage(message, byUniqueId);
            Check.equal(byOffset.getCommitLogOffset(), byUniqueId.getCommitLogOffset(), "log offset");
        }

        SendResult last = Check.stored(producer.send(session.message(topic, "TagA", 6)));
        String noRecordStartsThere = last.getOffsetMsgId().substring(0, 16) + "00000000000000" + "01";
        Check.equal(null, viewOrNull(producer, topic, noRecordStartsThere), "message at an offset inside of a record");
    }

    static void offsetByTime(Session session) throws Exception {
        DefaultMQProducer producer = session.producer();
        MessageQueue queue = session.publishQueues(session.createdTopic(1)).get(0);
        List<Long> storedAt = new ArrayList<>();
        for (Message message : session.messages(queue.getTopic(), 10)) {
            String id = Check.stored(producer.send(message, queue)).getOffsetMsgId();
            storedAt.add(producer.viewMessage(queue.getTopic(), id).getStoreTimestamp());
            // Store times are whole milliseconds: the next message must get a later one.
            Thread.sleep(3);
        }
        Await.until("the queue serves all messages", () -> producer.maxOffset(queue) == 10);
        Check.equal(0L, producer.minOffset(queue), "min offset");
        Check.equal(storedAt.get(0), producer.earliestMsgStoreTime(queue), "earliest store time");
        for (int i = 0; i < 10; i++) {
            Check.equal((long) i, producer.searchOffset(queue, storedAt.get(i)), "offset at the store time of message " + i);
        }
        Check.equal(5L, producer.searchOffset(queue, storedAt.get(4) + 1), "offset just after message 4");
        Check.equal(0L, producer.searchOffset(queue, storedAt.get(0) - HOUR_MS), "offset before the first message");
        Check.equal(10L, producer.searchOffset(queue, storedAt.get(9) + HOUR_MS), "offset after the last message");
    }

    private static List<MessageExt> query(Session session, String topic, String key) throws Exception {
        return query(session, topic, key, LIMIT, 0, System.currentTimeMillis() + HOUR_MS);
    }

    /** The client reports "nothing found" as an exception. */
    private static List<MessageExt> query(Session session, String topic, String key, int limit, long begin, long end)
        throws Exception {
        try {
            return session.producer().queryMessage(topic, key, limit, begin, end).getMessageList();
        } catch (MQClientException nothing) {
            Check.that(String.valueOf(nothing.getErrorMessage()).contains("no message"), "query failed: " + nothing);
            return List.of();
        }
    }

    private static MessageExt viewOrNull(DefaultMQProducer producer, String topic, String id) throws Exception {
        try {
            return producer.viewMessage(topic, id);
        } catch (MQClientException | MQBrokerException nothing) {
            return null;
        }
    }
}
