package interop.control;

import java.io.IOException;
import java.nio.file.Path;
import java.util.Properties;

import org.apache.rocketmq.broker.BrokerController;
import org.apache.rocketmq.common.BrokerConfig;
import org.apache.rocketmq.common.MixAll;
import org.apache.rocketmq.common.namesrv.NamesrvConfig;
import org.apache.rocketmq.namesrv.NamesrvController;
import org.apache.rocketmq.remoting.netty.NettyClientConfig;
import org.apache.rocketmq.remoting.netty.NettyServerConfig;
import org.apache.rocketmq.store.config.MessageStoreConfig;

/** A name server and a broker of RocketMQ 4.9. Its twin for 5.x is in {@code src/control5}. */
final class Servers {
    private static final String LOOPBACK = "127.0.0.1";

    final String namesrv;
    final String broker;
    final NamesrvController namesrvController;
    private final BrokerController brokerController;

    /** Starts both; the ports are given and free. */
    Servers(Path store, int namesrvPort, int brokerPort, Properties properties) throws Exception {
        namesrv = LOOPBACK + ":" + namesrvPort;
        namesrvController = startNamesrv(store, namesrvPort);
        brokerController = startBroker(store, brokerPort, namesrv, properties);
        broker = brokerController.getBrokerAddr();
    }

    void shutdown() {
        brokerController.shutdown();
        namesrvController.shutdown();
    }

    private static NamesrvController startNamesrv(Path store, int port) throws Exception {
        NamesrvConfig config = new NamesrvConfig();
        config.setRocketmqHome(store.toString());
        config.setKvConfigPath(store.resolve("namesrv/kvConfig.json").toString());
        config.setConfigStorePath(store.resolve("namesrv/namesrv.properties").toString());
        NettyServerConfig server = new NettyServerConfig();
        server.setListenPort(port);

        NamesrvController controller = new NamesrvController(config, server);
        if (!controller.initialize()) {
            throw new IOException("the name server did not initialise; its log is below " + store);
        }
        controller.start();
        return controller;
    }

    private static BrokerController startBroker(Path store, int port, String namesrvAddress, Properties properties)
            throws Exception {
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
        server.setListenPort(port);
        NettyClientConfig client = new NettyClientConfig();

        MixAll.properties2Object(properties, broker);
        MixAll.properties2Object(properties, messageStore);
        MixAll.properties2Object(properties, server);
        MixAll.properties2Object(properties, client);
        messageStore.setHaListenPort(server.getListenPort() + 1);

        BrokerController controller = new BrokerController(broker, server, client, messageStore);
        if (!controller.initialize()) {
            throw new IOException("the broker did not initialise; its log is below " + store);
        }
        controller.start();
        return controller;
    }
}
