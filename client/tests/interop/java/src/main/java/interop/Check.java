package interop;

import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;

import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/** Assertions whose failure is one readable line. */
final class Check {
    private static final List<String> USER_PROPERTIES = List.of("number", "text");

    private Check() {
    }

    static void that(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    static void equal(Object expected, Object actual, String what) {
        that(Objects.equals(expected, actual), what + ": expected " + expected + ", got " + actual);
    }

    static SendResult stored(SendResult result) {
        equal(SendStatus.SEND_OK, result.getSendStatus(), "send status");
        that(result.getQueueOffset() >= 0, "queue offset of the send result is " + result.getQueueOffset());
        return result;
    }

    /** What was received is what was sent: each message exactly once, with everything it carries. */
    static void sameMessages(Collection<Message> sent, Collection<MessageExt> received) {
        Map<String, Message> byKey = new HashMap<>();
        sent.forEach(message -> byKey.put(message.getKeys(), message));
        equal(sent.size(), received.size(), "number of messages");
        equal(byKey.keySet().size(), sent.size(), "number of different keys");
        for (MessageExt message : received) {
            Message original = byKey.remove(message.getKeys());
            that(original != null, "received twice, or never sent: " + message);
            sameMessage(original, message);
        }
    }

    static void sameMessage(Message sent, MessageExt received) {
        String which = "of the message with key " + sent.getKeys();
        equal(sent.getTopic(), received.getTopic(), "topic " + which);
        that(Arrays.equals(sent.getBody(), received.getBody()), "body differs " + which);
        equal(sent.getKeys(), received.getKeys(), "keys " + which);
        equal(sent.getTags(), received.getTags(), "tag " + which);
        equal(sent.getFlag(), received.getFlag(), "flag " + which);
        for (String property : USER_PROPERTIES) {
            equal(sent.getUserProperty(property), received.getUserProperty(property), "property " + property + " " + which);
        }
        that(received.getBornTimestamp() <= received.getStoreTimestamp() + 1000, "stored before it was born: " + received);
    }

    static <T> void allDifferent(Collection<T> values, String what) {
        equal(values.size(), new HashSet<>(values).size(), "number of different " + what);
    }
}
