package interop.control;

import java.io.IOException;
import java.io.OutputStream;
import java.io.PrintStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Properties;
import java.util.concurrent.Callable;

import org.apache.rocketmq.common.MQVersion;
import org.apache.rocketmq.namesrv.NamesrvController;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;

/**
 * Runs one real RocketMQ name server and one real broker in this process, on the loopback interface.
 *
 * <p>Usage: {@code Control STORE_DIR [namesrvPort=N] [listenPort=N] [key=value ...]}. Every other {@code key=value} is a
 * property of {@code broker.conf}. Ports default to free ones. Prints {@code ready namesrv=… broker=…} when both serve,
 * and stops on SIGTERM or when its standard input ends.
 */
public final class Control {
    private static final String LOOPBACK = "127.0.0.1";
    /** The topic that every broker has whose topics are created by sends. */
    private static final String CREATING_TOPIC = "TBW102";
    private static final Duration REGISTRATION_LIMIT = Duration.ofSeconds(60);

    private Control() {
    }

    public static void main(String[] args) throws Exception {
        if (args.length == 0) {
            System.err.println("usage: Control STORE_DIR [namesrvPort=N] [listenPort=N] [key=value ...]");
            System.exit(2);
        }
        Path store = Files.createDirectories(Path.of(args[0]).toAbsolutePath());
        Properties properties = parse(args);
        PrintStream out = System.out;
        // RocketMQ's logging prints its own set-up on standard output, which belongs to the `ready` line.
        System.setOut(System.err);
        System.setProperty(RemotingCommand.REMOTING_VERSION_KEY, Integer.toString(MQVersion.CURRENT_VERSION));

        int namesrvPort = take(properties, "namesrvPort", Control::freePort);
        int brokerPort = take(properties, "listenPort", Control::freeBrokerPort);
        Servers servers = new Servers(store, namesrvPort, brokerPort, properties);
        Runtime.getRuntime().addShutdownHook(new Thread(servers::shutdown, "stopper"));

        awaitRegistration(servers.namesrvController);
        out.println("ready namesrv=" + servers.namesrv + " broker=" + servers.broker);
        System.in.transferTo(OutputStream.nullOutputStream());
        System.exit(0);
    }

    /** A broker whose first registration is too slow registers again ten seconds after it has started. */
    private static void awaitRegistration(NamesrvController namesrv) throws Exception {
        long deadline = System.nanoTime() + REGISTRATION_LIMIT.toNanos();
        while (namesrv.getRouteInfoManager().pickupTopicRouteData(CREATING_TOPIC) == null) {
            if (System.nanoTime() > deadline) {
                throw new IOException("the broker did not register in " + REGISTRATION_LIMIT);
            }
            Thread.sleep(5);
        }
    }

    private static Properties parse(String[] args) {
        Properties properties = new Properties();
        for (int i = 1; i < args.length; i++) {
            int equals = args[i].indexOf('=');
            if (equals <= 0) {
                System.err.println("not of the form key=value: " + args[i]);
                System.exit(2);
            }
            properties.setProperty(args[i].substring(0, equals), args[i].substring(equals + 1));
        }
        return properties;
    }

    private static int take(Properties properties, String name, Callable<Integer> free) throws Exception {
        Object port = properties.remove(name);
        return port == null ? free.call() : Integer.parseInt(port.toString());
    }

    private static int freePort() throws IOException {
        try (ServerSocket socket = bind(0)) {
            return socket.getLocalPort();
        }
    }

    /** A free port whose neighbours are free too: a broker also listens two below (fast channel) and one above (replication). */
    private static int freeBrokerPort() throws IOException {
        for (int attempt = 0; attempt < 100; attempt++) {
            try (ServerSocket main = bind(0);
                 ServerSocket fast = bind(main.getLocalPort() - 2);
                 ServerSocket replication = bind(main.getLocalPort() + 1)) {
                return main.getLocalPort();
            } catch (IOException | IllegalArgumentException taken) {
                // Another process has a neighbour: try the next port the system offers.
            }
        }
        throw new IOException("found no free port with free neighbours after 100 attempts");
    }

    private static ServerSocket bind(int port) throws IOException {
        ServerSocket socket = new ServerSocket();
        socket.bind(new InetSocketAddress(InetAddress.getByName(LOOPBACK), port));
        return socket;
    }
}
