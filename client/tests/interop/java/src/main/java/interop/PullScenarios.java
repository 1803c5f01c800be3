package interop;

import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import java.util.stream.LongStream;

import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.PullCallback;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** Reading a queue at offsets that the application chooses. */
@SuppressWarnings("deprecation") // The old pull consumer is what existing applications use.
final class PullScenarios {
    private static final int MESSAGES = 20;
    private static final int PAGE = 7;

    private PullScenarios() {
    }

    static void byOffset(Session session) throws Exception {
        List<Message> sent = new ArrayList<>();
        MessageQueue queue = filledQueue(session, sent);
        DefaultMQPullConsumer consumer = pullConsumer(session, session.name("group"));

        List<MessageExt> received = new ArrayList<>();
        long offset = 3;
        while (offset < MESSAGES) {
            PullResult page = consumer.pull(queue, "*", offset, PAGE);
            Check.equal(PullStatus.FOUND, page.getPullStatus(), "status at offset " + offset);
            Check.equal(0L, page.getMinOffset(), "min offset");
            Check.equal((long) MESSAGES, page.getMaxOffset(), "max offset");
            Check.equal(offset, page.getMsgFoundList().get(0).getQueueOffset(), "first offset of the page");
            offset += page.getMsgFoundList().size();
            Check.equal(offset, page.getNextBeginOffset(), "next offset");
            received.addAll(page.getMsgFoundList());
        }
        Check.sameMessages(sent.subList(3, MESSAGES), received);

        PullResult atEnd = consumer.pull(queue, "*", MESSAGES, PAGE);
        Check.equal(PullStatus.NO_NEW_MSG, atEnd.getPullStatus(), "status at the end");
        PullResult beyond = consumer.pull(queue, "*", MESSAGES + 1000, PAGE);
        Check.equal(PullStatus.OFFSET_ILLEGAL, beyond.getPullStatus(), "status beyond the end");
        Check.equal((long) MESSAGES, beyond.getNextBeginOffset(), "offset to correct to");
        PullResult filtered = consumer.pull(queue, "NoSuchTag", 0, MESSAGES);
        Check.equal(PullStatus.NO_MATCHED_MSG, filtered.getPullStatus(), "status when the tag matches nothing");
        Check.equal((long) MESSAGES, filtered.getNextBeginOffset(), "next offset when the tag matches nothing");
    }

    /** A pull at the end of a queue is held by the broker, and answered by the message that arrives. */
    static void heldUntilArrival(Session session) throws Exception {
        MessageQueue queue = filledQueue(session, new ArrayList<>());
        DefaultMQPullConsumer consumer = pullConsumer(session, session.name("group"));
        CompletableFuture<PullResult> answer = new CompletableFuture<>();
        consumer.pullBlockIfNotFound(queue, "*", MESSAGES, PAGE, new PullCallback() {
            @Override
            public void onSuccess(PullResult result) {
                answer.complete(result);
            }

            @Override
            public void onException(Throwable failure) {
                answer.completeExceptionally(failure);
            }
        });
        // That nothing happens can only be seen by waiting. Without long polling a broker holds a pull for 1 s, else for 20 s.
        Thread.sleep(1500);
        Check.that(!answer.isDone(), "a pull at the end of the queue was answered at once");

        Message message = session.message(queue.getTopic(), "TagA", MESSAGES);
        Check.stored(session.producer().send(message, queue));
        PullResult result = answer.get(2, TimeUnit.SECONDS);
        Check.equal(PullStatus.FOUND, result.getPullStatus(), "status of the held pull");
        Check.sameMessages(List.of(message), result.getMsgFoundList());
    }

    /** An offset committed to the broker is what another client of the group reads back. */
    static void commitOffset(Session session) throws Exception {
        MessageQueue queue = filledQueue(session, new ArrayList<>());
        String group = session.name("group");
        DefaultMQPullConsumer first = pullConsumer(session, group);
        // The first pull of a group makes it known to the broker, which refuses offsets of unknown groups.
        first.pull(queue, "*", 0, PAGE);
        first.updateConsumeOffset(queue, 12);
        first.getOffsetStore().persistAll(Set.of(queue));

        DefaultMQPullConsumer second = pullConsumer(session, group);
        // The client commits without waiting for an answer.
        Await.until("offset 12 is committed", () -> second.fetchConsumeOffset(queue, true) == 12);
    }

    static void liteSeek(Session session) throws Exception {
        List<Message> sent = new ArrayList<>();
        MessageQueue queue = filledQueue(session, sent);
        DefaultLitePullConsumer consumer = new DefaultLitePullConsumer(session.name("group"));
        consumer.setNamesrvAddr(session.namesrv());
        consumer.setInstanceName(session.name("member"));
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.start();
        session.closeAtEnd(consumer::shutdown);
        consumer.assign(List.of(queue));
        // The client mixes what it reads before and after a seek that overtakes its first pull.
        List<MessageExt> all = new ArrayList<>();
        Await.until("the queue is read from its start", () -> {
            all.addAll(consumer.poll(500));
            return all.size() >= MESSAGES;
        });
        Check.sameMessages(sent, all);
        consumer.seek(queue, 5);

        List<MessageExt> received = new ArrayList<>();
        Await.until("the queue is read from offset 5", () -> {
            received.addAll(consumer.poll(500));
            return received.size() >= MESSAGES - 5;
        });
        Check.sameMessages(sent.subList(5, MESSAGES), received);
        Check.equal(LongStream.range(5, MESSAGES).boxed().collect(Collectors.toList()),
            received.stream().map(MessageExt::getQueueOffset).collect(Collectors.toList()), "order of the offsets");
    }

    /** One queue with {@link #MESSAGES} messages, which are added to {@code sent}. */
    private static MessageQueue filledQueue(Session session, List<Message> sent) throws Exception {
        MessageQueue queue = session.publishQueues(session.createdTopic(1)).get(0);
        for (Message message : session.messages(queue.getTopic(), MESSAGES)) {
            Check.stored(session.producer().send(message, queue));
            sent.add(message);
        }
        Await.until("the queue serves all messages", () -> session.producer().maxOffset(queue) == MESSAGES);
        return queue;
    }

    private static DefaultMQPullConsumer pullConsumer(Session session, String group) throws Exception {
        DefaultMQPullConsumer consumer = new DefaultMQPullConsumer(group);
        consumer.setNamesrvAddr(session.namesrv());
        consumer.setInstanceName(session.name("member"));
        consumer.start();
        session.closeAtEnd(consumer::shutdown);
        return consumer;
    }
}
