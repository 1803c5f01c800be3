package interop;

import java.util.Random;

import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.impl.factory.MQClientInstance;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;

/** Requests that a broker must refuse with an answer, on a connection that goes on. */
final class RejectScenarios {
    private static final int SEND_MESSAGE = 10;
    private static final int MESSAGE_ILLEGAL = 13;
    private static final int FIVE_MEBIBYTES = 5 * 1024 * 1024;
    private static final int TIMEOUT_MS = 15_000;

    private RejectScenarios() {
    }

    static void tooLarge(Session session) throws Exception {
        DefaultMQProducer producer = session.producer();
        // Beyond the client's own limit the broker would never see the message.
        producer.setMaxMessageSize(2 * FIVE_MEBIBYTES);
        String topic = session.createdTopic(1);
        byte[] body = new byte[FIVE_MEBIBYTES];
        new Random(5).nextBytes(body);
        MQBrokerException refusal = null;
        try {
            producer.send(new Message(topic, body));
        } catch (MQBrokerException e) {
            refusal = e;
        }
        Check.that(refusal != null, "a message of 5 MiB was accepted");
        Check.equal(MESSAGE_ILLEGAL, refusal.getResponseCode(), "response code");
        Check.that(!refusal.getErrorMessage().isBlank(), "the refusal says nothing");
        goesOn(session, topic);
    }

    static void illegalTopic(Session session) throws Exception {
        String topic = session.createdTopic(1);
        SendResult before = Check.stored(session.producer().send(session.message(topic, "TagA", 1)));
        // The client checks names itself, so the request is put together by hand; it goes over the client's connection.
        MQClientInstance client = session.producer().getDefaultMQProducerImpl().getMqClientFactory();
        String broker = client.findBrokerAddressInPublish(before.getMessageQueue().getBrokerName());
        for (String name : new String[] {"../../x", "no spaces", "", "a".repeat(300)}) {
            RemotingCommand request = RemotingCommand.createRequestCommand(SEND_MESSAGE, null);
            request.addExtField("producerGroup", session.name("producers"));
            request.addExtField("topic", name);
            request.addExtField("defaultTopic", "TBW102");
            request.addExtField("defaultTopicQueueNums", "4");
            request.addExtField("queueId", "0");
            request.addExtField("sysFlag", "0");
            request.addExtField("bornTimestamp", Long.toString(System.currentTimeMillis()));
            request.addExtField("flag", "0");
            request.addExtField("properties", "");
            request.setBody(new byte[] {1});
            RemotingCommand response = client.getMQClientAPIImpl().getRemotingClient().invokeSync(broker, request, TIMEOUT_MS);
            String which = " of a send to the topic '" + name + "'";
            Check.that(response.getCode() != 0, "response code 0" + which);
            Check.that(response.getRemark() != null && !response.getRemark().isBlank(), "no reason in the answer" + which);
        }
        goesOn(session, topic);
    }

    private static void goesOn(Session session, String topic) throws Exception {
        Message next = session.message(topic, "TagA", 2);
        SendResult result = Check.stored(session.producer().send(next));
        Check.sameMessage(next, session.producer().viewMessage(topic, result.getOffsetMsgId()));
    }
}
