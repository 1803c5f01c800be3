package interop;

import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;

import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/** Consumer groups of the push consumer. */
final class PushScenarios {
    private static final int QUEUES = 4;
    private static final int MESSAGES = 40;
    /** Clients look for changes of their group every 20 s; only a notification by the broker is faster. */
    private static final Duration TAKE_OVER = Duration.ofSeconds(2);

    private PushScenarios() {
    }

    static void clusteringWithRebalance(Session session) throws Exception {
        String topic = session.createdTopic(QUEUES);
        String group = session.name("group");
        Collector stays = Collector.clustering(session, group, topic, "*");
        Collector leaves = Collector.clustering(session, group, topic, "*");
        Await.until("two members own two of four queues each",
            () -> stays.queues().size() == QUEUES / 2 && leaves.queues().size() == QUEUES / 2);

        List<Message> sent = sendToAllQueues(session, topic, 0, MESSAGES);
        Await.until("both members together receive all", () -> stays.count() + leaves.count() >= MESSAGES);
        List<MessageExt> received = new ArrayList<>(stays.messages());
        received.addAll(leaves.messages());
        Check.sameMessages(sent, received);
        Check.equal(MESSAGES / 2, stays.count(), "messages of the first member");
        Check.equal(QUEUES / 2, queueIds(stays.messages()).size(), "queues the first member received from");

        leaves.leave();
        long deadline = System.nanoTime() + TAKE_OVER.toNanos();
        List<Message> after = sendToAllQueues(session, topic, MESSAGES, MESSAGES);
        Await.untilDeadline("the survivor owns all queues within " + TAKE_OVER + " of the leave", deadline,
            () -> stays.queues().size() == QUEUES);
        Await.until("the survivor receives all new messages", () -> stays.count() >= MESSAGES / 2 + MESSAGES);
        Check.sameMessages(after, stays.messages().subList(MESSAGES / 2, stays.count()));
    }

    static void broadcasting(Session session) throws Exception {
        String topic = session.createdTopic(QUEUES);
        String group = session.name("group");
        Collector first = Collector.broadcasting(session, group, topic);
        Collector second = Collector.broadcasting(session, group, topic);
        List<Message> sent = sendToAllQueues(session, topic, 0, MESSAGES);
        Check.sameMessages(sent, first.await(MESSAGES));
        Check.sameMessages(sent, second.await(MESSAGES));
    }

    static void tagFilter(Session session) throws Exception {
        // One queue: once its last message has arrived, what was filtered out cannot follow.
        String topic = session.createdTopic(1);
        List<String> tags = List.of("TagC", "TagA", "", "TagB", "TagAB", "TagC", "TagB", "TagA");
        List<Message> sent = new ArrayList<>();
        for (String tag : tags) {
            sent.add(session.message(topic, tag, sent.size()));
            Check.stored(session.producer().send(sent.get(sent.size() - 1)));
        }
        List<Message> wanted = sent.stream()
            .filter(message -> "TagA".equals(message.getTags()) || "TagB".equals(message.getTags()))
            .collect(Collectors.toList());
        Collector collector = Collector.clustering(session, session.name("group"), topic, "TagA || TagB");
        Check.sameMessages(wanted, collector.await(wanted.size()));

        Collector everything = Collector.clustering(session, session.name("group"), topic, "*");
        Check.sameMessages(sent, everything.await(sent.size()));
    }

    /** Two members, one after the other: the lock of the first is free as soon as it leaves. */
    static void orderly(Session session) throws Exception {
        String topic = session.createdTopic(QUEUES);
        String group = session.name("group");
        List<Message> sent = sendToAllQueues(session, topic, 0, MESSAGES);
        Collector first = Collector.orderly(session, group, topic);
        first.await(MESSAGES);
        first.leave();

        sent.addAll(sendToAllQueues(session, topic, MESSAGES, MESSAGES));
        Collector second = Collector.orderly(session, group, topic);
        second.await(MESSAGES);

        List<MessageExt> received = new ArrayList<>(first.messages());
        received.addAll(second.messages());
        Check.sameMessages(sent, received);
        Map<Integer, Long> last = new HashMap<>();
        for (MessageExt message : received) {
            Long before = last.put(message.getQueueId(), message.getQueueOffset());
            long expected = before == null ? 0 : before + 1;
            Check.equal(expected, message.getQueueOffset(), "next offset of queue " + message.getQueueId());
        }
        Check.equal(QUEUES, last.size(), "queues received from");
    }

    static void offsetResume(Session session) throws Exception {
        String topic = session.createdTopic(QUEUES);
        String group = session.name("group");
        List<Message> before = sendToAllQueues(session, topic, 0, MESSAGES);
        Collector first = Collector.clustering(session, group, topic, "*");
        Check.sameMessages(before, first.await(MESSAGES));
        first.leave();

        List<Message> after = sendToAllQueues(session, topic, MESSAGES, MESSAGES);
        Collector restarted = Collector.clustering(session, group, topic, "*");
        Check.sameMessages(after, restarted.await(MESSAGES));
    }

    private static List<Message> sendToAllQueues(Session session, String topic, int from, int count) throws Exception {
        List<Message> sent = new ArrayList<>();
        for (int i = from; i < from + count; i++) {
            Message message = session.message(topic, "TagA", i);
            Check.stored(session.producer().send(message, (all, m, number) -> all.get((int) number % all.size()), i));
            sent.add(message);
        }
        return sent;
    }

    private static Set<Integer> queueIds(List<MessageExt> messages) {
        return messages.stream().map(MessageExt::getQueueId).collect(Collectors.toCollection(HashSet::new));
    }
}
