package interop;

import java.util.List;

import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageQueue;

/** Topics made through the client. */
final class TopicScenarios {
    private TopicScenarios() {
    }

    static void create(Session session) throws Exception {
        String topic = session.createdTopic(3);
        List<MessageQueue> queues = session.publishQueues(topic);
        for (int i = 0; i < 3; i++) {
            Check.equal(i, queues.get(i).getQueueId(), "id of queue " + i);
            Check.equal(0L, session.producer().maxOffset(queues.get(i)), "max offset of empty queue " + i);
        }

        // Creating it again changes it: the route shows more queues, and the new ones can be used.
        Generation.createTopic(session.producer(), topic, 5);
        Await.until("the route shows five queues", () -> session.publishQueues(topic).size() == 5);
        List<Message> sent = session.messages(topic, 5);
        for (int i = 0; i < 5; i++) {
            Check.stored(session.producer().send(sent.get(i), session.publishQueues(topic).get(i)));
        }
        Collector collector = Collector.clustering(session, session.name("group"), topic, "*");
        Check.sameMessages(sent, collector.await(5));

        Check.equal(List.of(), session.publishQueues(session.topic()), "queues of a topic that does not exist");
    }
}
