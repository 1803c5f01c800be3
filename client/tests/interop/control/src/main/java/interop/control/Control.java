package interop.control;

import java.io.IOException;
import java.io.OutputStream;
import java.io.PrintStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Properties;

import org.apache.rocketmq.auth.config.AuthConfig;
import org.apache.rocketmq.broker.BrokerController;
import org.apache.rocketmq.common.BrokerConfig;
import org.apache.rocketmq.common.MQVersion;
import org.apache.rocketmq.common.MixAll;
import org.apache.rocketmq.common.namesrv.NamesrvConfig;
import org.apache.rocketmq.namesrv.NamesrvController;
import org.apache.rocketmq.remoting.netty.NettyClientConfig;
import org.apache.rocketmq.remoting.netty.NettyServerConfig;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;
import org.apache.rocketmq.store.config.MessageStoreConfig;

/**
 * Runs one real RocketMQ name server and one real broker in this process, on the loopback interface.
 *
 * <p>Usage: {@code Control STORE_DIR [namesrvPort=N] [listenPort=N] [key=value ...]}. Every other {@code key=value} is a
 * property of {@code broker.conf}. Ports default to free ones. Prints {@code ready namesrv=… broker=…} when both serve,
 * and stops on SIGTERM or when its standard input ends.
 */
public final class Control {
    private static final String LOOPBACK = "127.0.0.1";

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

        NamesrvController namesrv = startNamesrv(store, properties);
        String namesrvAddress = LOOPBACK + ":" + namesrv.getNettyServerConfig().getListenPort();
        BrokerController broker = startBroker(store, namesrvAddress, properties);

        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            broker.shutdown();
            namesrv.shutdown();
        }, "stopper"));

        out.println("ready namesrv=" + namesrvAddress + " broker=" + broker.getBrokerAddr());
        System.in.transferTo(OutputStream.nullOutputStream());
        System.exit(0);
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

    private static NamesrvController startNamesrv(Path store, Properties properties) throws Exception {
        NamesrvConfig config = new NamesrvConfig();
        config.setRocketmqHome(store.toString());
        config.setKvConfigPath(store.resolve("namesrv/kvConfig.json").toString());
        config.setConfigStorePath(store.resolve("namesrv/namesrv.properties").toString());
        NettyServerConfig server = new NettyServerConfig();
        server.setBindAddress(LOOPBACK);
        server.setListenPort(Integer.parseInt(properties.getProperty("namesrvPort", "0")));

        NamesrvController controller = new NamesrvController(config, server);
        if (!controller.initialize()) {
            throw new IOException("the name server did not initialise; its log is below " + store);
        }
        controller.start();
        return controller;
    }

    private static BrokerController startBroker(Path store, String namesrvAddress, Properties properties) throws Exception {
        BrokerConfig broker = new BrokerConfig();
        broker.setRocketmqHome(store.toString());
        broker.setBrokerName("control");
        broker.setBrokerIP1(LOOPBACK);
        broker.setBrokerIP2(LOOPBACK);
        broker.setNamesrvAddr(namesrvAddress);
        broker.setAutoCreateTopicEnable(true);
        MessageStoreConfig messageStore = new MessageStoreConfig();
        messageStore.setStorePathRootDir(store.resolve("broker").toString());
        NettyServerConfig server = new NettyServerConfig();
        server.setBindAddress(LOOPBACK);
        server.setListenPort(freeBrokerPort());
        NettyClientConfig client = new NettyClientConfig();
        AuthConfig auth = new AuthConfig();

        MixAll.properties2Object(properties, broker);
        MixAll.properties2Object(properties, messageStore);
        MixAll.properties2Object(properties, server);
        MixAll.properties2Object(properties, client);
        MixAll.properties2Object(properties, auth);
        messageStore.setHaListenPort(server.getListenPort() + 1);
        auth.setConfigName(broker.getBrokerName());
        auth.setClusterName(broker.getBrokerClusterName());
        auth.setAuthConfigPath(store.resolve("broker/config").toString());

        BrokerController controller = new BrokerController(broker, server, client, messageStore, auth);
        if (!controller.initialize()) {
            throw new IOException("the broker did not initialise; its log is below " + store);
        }
        controller.start();
        return controller;
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
