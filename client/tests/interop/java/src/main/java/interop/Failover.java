package interop;

import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;

import org.apache.rocketmq.client.ClientConfig;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/**
 * Sends and consumes all the time, while a master is killed and started again and again by somebody else.
 *
 * <p>Usage: {@code Failover NAMESRV TOPIC NAME PHASE BROKER}. PHASE is a file that says what happens: {@code up},
 * {@code down N}, {@code slave N} or {@code end}. BROKER names the pair whose master goes down. With {@code slave N} a new
 * group must get everything that the pair has from the slave alone; when it has, the file {@code PHASE.N.NAME} appears.
 * With {@code end} everything that was sent must have been consumed.
 */
public final class Failover {
    private static final int SEND_EVERY_MS = 5;
    /** Younger messages need not be on an asynchronous slave yet. */
    private static final long SETTLED_MS = 1000;
    private static final Duration LIMIT = Duration.ofSeconds(60);
    private static final int SHOWN = 5;
    private static final int BATCH = 256;

    private final String namesrv;
    private final String topic;
    private final String name;
    private final Path phase;
    private final String broker;
    /** Key to time of all messages that were sent well, and of those on the pair. */
    private final Map<String, Long> sent = new ConcurrentHashMap<>();
    private final Map<String, Long> onPair = new ConcurrentHashMap<>();
    private final Map<String, Integer> troubles = new ConcurrentHashMap<>();
    private final Set<String> pushed = ConcurrentHashMap.newKeySet();
    private final Set<String> polled = ConcurrentHashMap.newKeySet();
    private final AtomicInteger pushedAgain = new AtomicInteger();
    private final AtomicInteger polledAgain = new AtomicInteger();
    private final AtomicInteger sendErrors = new AtomicInteger();
    private final AtomicInteger pollErrors = new AtomicInteger();
    private volatile boolean sending = true;
    private volatile boolean polling = true;
    private int failed;

    private Failover(String[] args) {
        namesrv = args[0];
        topic = args[1];
        name = args[2];
        phase = Path.of(args[3]);
        broker = args[4];
    }

    public static void main(String[] args) throws Exception {
        if (args.length != 5) {
            System.err.println("usage: Failover NAMESRV TOPIC NAME PHASE BROKER");
            System.exit(2);
        }
        // The clients' threads would keep a program alive that has failed.
        Thread.setDefaultUncaughtExceptionHandler((thread, e) -> {
            e.printStackTrace();
            Runtime.getRuntime().halt(1);
        });
        System.exit(new Failover(args).run());
    }

    private int run() throws Exception {
        DefaultMQProducer producer = new DefaultMQProducer(name + "-producer");
        configure(producer);
        producer.start();
        DefaultMQPushConsumer push = push(name + "-push", pushed, pushedAgain);
        DefaultLitePullConsumer lite = new DefaultLitePullConsumer(name + "-pull");
        configure(lite);
        lite.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        lite.subscribe(topic, "*");
        lite.start();
        Thread sender = new Thread(() -> send(producer));
        Thread poller = new Thread(() -> poll(lite));
        sender.start();
        poller.start();

        String done = "";
        while (true) {
            String[] now = Files.readString(phase).trim().split(" ");
            if (now[0].equals("end")) {
                break;
            }
            if (now[0].equals("slave") && !now[1].equals(done)) {
                done = now[1];
                fromSlave();
                Files.writeString(Path.of(phase + "." + done + "." + name), "");
            }
            Thread.sleep(50);
        }
        sending = false;
        sender.join();
        judge("consumed by callback", pushed, pushedAgain);
        judge("consumed by polling", polled, polledAgain);
        polling = false;
        poller.join();
        System.out.println(name + ": " + sent.size() + " sends were OK, " + onPair.size() + " of them to " + broker);
        new TreeMap<>(troubles).forEach((what, count) -> System.out.println("     " + count + " x " + what));
        report(sendErrors.get() == 0, "no send fails at the application", sendErrors + " failed");
        report(pollErrors.get() == 0, "no poll fails", pollErrors + " failed");
        push.shutdown();
        return failed == 0 ? 0 : 1;
    }

    private void configure(ClientConfig config) {
        config.setNamesrvAddr(namesrv);
        config.setPollNameServerInterval(1000);
        config.setHeartbeatBrokerInterval(1000);
    }

    private DefaultMQPushConsumer push(String group, Set<String> seen, AtomicInteger again) throws Exception {
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(group);
        configure(consumer);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.setPullBatchSize(BATCH);
        consumer.setConsumeMessageBatchMaxSize(BATCH);
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            note(messages, seen, again);
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        return consumer;
    }

    private static void note(List<MessageExt> messages, Set<String> seen, AtomicInteger again) {
        for (MessageExt message : messages) {
            if (!seen.add(message.getKeys())) {
                again.incrementAndGet();
            }
        }
    }

    private void send(DefaultMQProducer producer) {
        for (int i = 0; sending; i++) {
            String key = name + "-" + i;
            Message message = new Message(topic, "", key, ("body of " + key).getBytes(StandardCharsets.UTF_8));
            try {
                SendResult result = producer.send(message);
                if (result.getSendStatus() == SendStatus.SEND_OK) {
                    sent.put(key, System.currentTimeMillis());
                    if (result.getMessageQueue().getBrokerName().equals(broker)) {
                        onPair.put(key, System.currentTimeMillis());
                    }
                } else {
                    trouble("send status " + result.getSendStatus());
                }
                Thread.sleep(SEND_EVERY_MS);
            } catch (Exception e) {
                sendErrors.incrementAndGet();
                trouble("send: " + e);
            }
        }
    }

    private void poll(DefaultLitePullConsumer lite) {
        while (polling) {
            try {
                note(lite.poll(200), polled, polledAgain);
            } catch (Exception e) {
                pollErrors.incrementAndGet();
                trouble("poll: " + e);
            }
        }
        lite.shutdown();
    }

    private void trouble(String what) {
        troubles.merge(what.replaceAll("[0-9A-F]{12,}|[0-9]{3,}", "#"), 1, Integer::sum);
    }

    /** A group that has never been there gets from the slave what both brokers of the pair have. */
    private void fromSlave() throws Exception {
        long settled = System.currentTimeMillis() - SETTLED_MS;
        Set<String> wanted = ConcurrentHashMap.newKeySet();
        onPair.forEach((key, time) -> {
            if (time < settled) {
                wanted.add(key);
            }
        });
        Set<String> seen = ConcurrentHashMap.newKeySet();
        String group = name + "-slave-" + settled;
        long begun = System.nanoTime();
        DefaultMQPushConsumer consumer = push(group, seen, new AtomicInteger());
        boolean all = complete(seen, wanted);
        consumer.shutdown();
        wanted.removeAll(seen);
        long took = (System.nanoTime() - begun) / 1_000_000;
        report(all, "a new group reads from the slave while the master is down (" + took + " ms)",
            seen.size() + " messages came, " + wanted.size() + " are missing");
    }

    private static boolean complete(Set<String> seen, Set<String> wanted) throws Exception {
        long deadline = System.nanoTime() + LIMIT.toNanos();
        while (!seen.containsAll(wanted)) {
            if (System.nanoTime() > deadline) {
                return false;
            }
            Thread.sleep(50);
        }
        return true;
    }

    private void judge(String how, Set<String> seen, AtomicInteger again) throws Exception {
        boolean all = complete(seen, sent.keySet());
        Set<String> missing = ConcurrentHashMap.newKeySet();
        missing.addAll(sent.keySet());
        missing.removeAll(seen);
        StringBuilder text = new StringBuilder(seen.size() + " different messages, " + again + " came again");
        if (!all) {
            text.append(", ").append(missing.size()).append(" are missing, for example");
            missing.stream().sorted().limit(SHOWN)
                .forEach(key -> text.append(' ').append(key).append(onPair.containsKey(key) ? " of the pair" : ""));
        }
        report(all, "every message that was sent is " + how, text.toString());
    }

    private void report(boolean holds, String what, String figures) {
        failed += holds ? 0 : 1;
        System.out.println((holds ? "PASS " : "FAIL ") + name + ": " + what + ": " + figures);
    }
}
