package interop;

import java.io.BufferedOutputStream;
import java.io.FileOutputStream;
import java.io.OutputStream;
import java.security.MessageDigest;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageExt;

/**
 * Push-consumes a topic from its first message and writes every body as one line.
 *
 * <p>Usage: {@code LinesConsumer NAMESRV TOPIC GROUP COUNT TIMEOUT_S [FILE]}. Ends when COUNT different messages were
 * received (exit 0) or after TIMEOUT_S seconds (exit 1). Lines go to FILE or standard output, then
 * {@code count=N checksum=HEX} to standard output (standard error if the lines go there). The checksum does not depend on
 * the order: it is the sum of the first eight bytes of every line's SHA-256.
 */
public final class LinesConsumer {
    private final OutputStream lines;
    private final CountDownLatch missing;
    private final Set<String> seen = new HashSet<>();
    private long checksum;

    private LinesConsumer(OutputStream lines, int count) {
        this.lines = lines;
        this.missing = new CountDownLatch(count);
    }

    public static void main(String[] args) throws Exception {
        if (args.length < 5 || args.length > 6) {
            System.err.println("usage: LinesConsumer NAMESRV TOPIC GROUP COUNT TIMEOUT_S [FILE]");
            System.exit(2);
        }
        boolean toFile = args.length == 6;
        OutputStream target = toFile ? new FileOutputStream(args[5]) : System.out;
        LinesConsumer sink = new LinesConsumer(new BufferedOutputStream(target, 1 << 16), Integer.parseInt(args[3]));

        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(args[2]);
        consumer.setNamesrvAddr(args[0]);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.setConsumeMessageBatchMaxSize(32);
        consumer.setHeartbeatBrokerInterval(Session.HEARTBEAT_INTERVAL_MS);
        consumer.setPullBatchSize(32);
        consumer.subscribe(args[1], "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> sink.accept(messages));
        consumer.start();
        boolean complete = sink.missing.await(Long.parseLong(args[4]), TimeUnit.SECONDS);
        consumer.shutdown();

        String summary = sink.finish();
        (toFile ? System.out : System.err).println(summary);
        System.exit(complete ? 0 : 1);
    }

    private synchronized ConsumeConcurrentlyStatus accept(List<MessageExt> messages) {
        try {
            for (MessageExt message : messages) {
                // A message may be delivered again after a rebalance; its place in the queue tells it is the same one.
                if (seen.add(message.getBrokerName() + "/" + message.getQueueId() + "/" + message.getQueueOffset())) {
                    lines.write(message.getBody());
                    lines.write('\n');
                    checksum += digest(message.getBody());
                    missing.countDown();
                }
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        } catch (Exception e) {
            // Without its lines the run is worthless, and a retry would not bring them back.
            e.printStackTrace();
            Runtime.getRuntime().halt(1);
            throw new IllegalStateException(e);
        }
    }

    private static long digest(byte[] line) throws Exception {
        byte[] hash = MessageDigest.getInstance("SHA-256").digest(line);
        long first = 0;
        for (int i = 0; i < Long.BYTES; i++) {
            first = first << 8 | hash[i] & 0xff;
        }
        return first;
    }

    private synchronized String finish() throws Exception {
        lines.flush();
        return "count=" + seen.size() + " checksum=" + Long.toHexString(checksum);
    }
}
