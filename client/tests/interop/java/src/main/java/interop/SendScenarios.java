package interop;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.Random;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/** Every way to send; each is checked by consuming what was sent. */
final class SendScenarios {
    private static final int MESSAGES = 24;
    private static final int MEBIBYTE = 1024 * 1024;

    private SendScenarios() {
    }

    static void sync(Session session) throws Exception {
        String topic = session.topic();
        List<Message> sent = session.messages(topic, MESSAGES);
        List<SendResult> results = new ArrayList<>();
        for (Message message : sent) {
            results.add(Check.stored(session.producer().send(message)));
        }
        consumeAndCompare(session, topic, sent, results);
    }

    static void async(Session session) throws Exception {
        String topic = session.topic();
        List<Message> sent = session.messages(topic, MESSAGES);
        // The first send creates the topic; the others may then all be under way at once.
        Queue<SendResult> results = new ConcurrentLinkedQueue<>(List.of(session.producer().send(sent.get(0))));
        Queue<Throwable> failures = new ConcurrentLinkedQueue<>();
        CountDownLatch answered = new CountDownLatch(MESSAGES - 1);
        for (Message message : sent.subList(1, MESSAGES)) {
            session.producer().send(message, new SendCallback() {
                @Override
                public void onSuccess(SendResult result) {
                    results.add(result);
                    answered.countDown();
                }

                @Override
                public void onException(Throwable failure) {
                    failures.add(failure);
                    answered.countDown();
                }
            });
        }
        Check.that(answered.await(Await.LONG.toSeconds(), TimeUnit.SECONDS), "callbacks missing: " + answered.getCount());
        Check.that(failures.isEmpty(), "failed: " + failures);
        results.forEach(Check::stored);
        consumeAndCompare(session, topic, sent, results);
    }

    static void oneway(Session session) throws Exception {
        String topic = session.createdTopic(4);
        List<Message> sent = session.messages(topic, MESSAGES);
        for (Message message : sent) {
            session.producer().sendOneway(message);
        }
        consumeAndCompare(session, topic, sent, List.of());
    }

    static void batch(Session session) throws Exception {
        String topic = session.topic();
        List<Message> sent = session.messages(topic, MESSAGES);
        SendResult result = Check.stored(session.producer().send(sent));
        String[] ids = result.getMsgId().split(",");
        Check.equal(MESSAGES, ids.length, "number of ids in the send result");

        List<MessageExt> received = consume(session, topic, MESSAGES);
        Check.sameMessages(sent, received);
        for (MessageExt message : received) {
            int number = Integer.parseInt(message.getUserProperty("number"));
            Check.equal(ids[number], message.getMsgId(), "unique id of message " + number);
            Check.equal(result.getMessageQueue().getQueueId(), message.getQueueId(), "queue of message " + number);
            Check.equal(result.getQueueOffset() + number, message.getQueueOffset(), "queue offset of message " + number);
        }
    }

    /** Bodies of a megabyte: one that the client compresses, one that cannot be compressed, and the largest allowed. */
    static void large(Session session) throws Exception {
        String topic = session.topic();
        byte[] text = "0123456789abcdef".repeat(MEBIBYTE / 16).getBytes(StandardCharsets.UTF_8);
        List<Message> sent = new ArrayList<>();
        for (byte[] body : List.of(text, random(MEBIBYTE), random(4 * MEBIBYTE))) {
            sent.add(new Message(topic, "TagA", "key-" + sent.size(), body));
        }
        List<SendResult> results = new ArrayList<>();
        results.add(Check.stored(session.producer().send(sent.get(0))));
        results.add(Check.stored(session.producer().send(sent.get(1))));
        // Compression makes random bytes longer, and this body has exactly the size that a broker allows.
        session.producer().setCompressMsgBodyOverHowmuch(Integer.MAX_VALUE);
        results.add(Check.stored(session.producer().send(sent.get(2))));

        List<MessageExt> received = consumeAndCompare(session, topic, sent, results);
        MessageExt compressed = received.stream().filter(message -> message.getKeys().equals("key-0")).findFirst().get();
        Check.that(compressed.getStoreSize() < MEBIBYTE / 10, "stored bytes of the text: " + compressed.getStoreSize());
    }

    private static byte[] random(int bytes) {
        byte[] body = new byte[bytes];
        new Random(bytes).nextBytes(body);
        return body;
    }

    private static List<MessageExt> consumeAndCompare(
        Session session, String topic, List<Message> sent, Collection<SendResult> results) throws Exception {
        List<MessageExt> received = consume(session, topic, sent.size());
        Check.sameMessages(sent, received);
        Map<String, MessageExt> byId = new HashMap<>();
        received.forEach(message -> byId.put(message.getMsgId(), message));
        for (SendResult result : results) {
            MessageExt message = byId.get(result.getMsgId());
            Check.that(message != null, "acknowledged but not received: " + result);
            Check.equal(result.getMessageQueue().getQueueId(), message.getQueueId(), "queue of " + result);
            Check.equal(result.getQueueOffset(), message.getQueueOffset(), "queue offset of " + result);
        }
        return received;
    }

    private static List<MessageExt> consume(Session session, String topic, int count) throws Exception {
        return Collector.clustering(session, session.name("group"), topic, "*").await(count);
    }
}
