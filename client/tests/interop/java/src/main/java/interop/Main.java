package interop;

import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.Map;
import java.util.Set;

/**
 * Runs the scenarios one after the other with an unmodified RocketMQ client.
 *
 * <p>Usage: {@code Main NAMESRV [SCENARIO ...]}. Prints {@code PASS name} or {@code FAIL name: reason} for each, then
 * {@code N passed, N failed}; exits with 0 only if none failed.
 */
public final class Main {
    private static final Map<String, Scenario> SCENARIOS = new LinkedHashMap<>();

    static {
        SCENARIOS.put("send-sync", SendScenarios::sync);
        SCENARIOS.put("send-async", SendScenarios::async);
        SCENARIOS.put("send-oneway", SendScenarios::oneway);
        SCENARIOS.put("send-batch", SendScenarios::batch);
        SCENARIOS.put("send-large", SendScenarios::large);
        SCENARIOS.put("push-clustering-rebalance", PushScenarios::clusteringWithRebalance);
        SCENARIOS.put("push-broadcasting", PushScenarios::broadcasting);
        SCENARIOS.put("push-tag-filter", PushScenarios::tagFilter);
        SCENARIOS.put("push-orderly", PushScenarios::orderly);
        SCENARIOS.put("push-offset-resume", PushScenarios::offsetResume);
        SCENARIOS.put("pull-by-offset", PullScenarios::byOffset);
        SCENARIOS.put("pull-held-until-arrival", PullScenarios::heldUntilArrival);
        SCENARIOS.put("pull-commit-offset", PullScenarios::commitOffset);
        SCENARIOS.put("pull-lite-seek", PullScenarios::liteSeek);
        SCENARIOS.put("query-by-key", QueryScenarios::byKey);
        SCENARIOS.put("query-by-id", QueryScenarios::byId);
        SCENARIOS.put("query-offset-by-time", QueryScenarios::offsetByTime);
        SCENARIOS.put("topic-create", TopicScenarios::create);
        SCENARIOS.put("reject-too-large", RejectScenarios::tooLarge);
        SCENARIOS.put("reject-illegal-topic", RejectScenarios::illegalTopic);
    }

    private Main() {
    }

    public static void main(String[] args) {
        if (args.length == 0) {
            System.err.println("usage: Main NAMESRV [SCENARIO ...]; scenarios: " + String.join(" ", SCENARIOS.keySet()));
            System.exit(2);
        }
        Set<String> wanted = new LinkedHashSet<>(Arrays.asList(args).subList(1, args.length));
        if (!SCENARIOS.keySet().containsAll(wanted)) {
            wanted.removeAll(SCENARIOS.keySet());
            System.err.println("no such scenario: " + String.join(" ", wanted));
            System.exit(2);
        }

        int passed = 0;
        int failed = 0;
        for (Map.Entry<String, Scenario> entry : SCENARIOS.entrySet()) {
            if (!wanted.isEmpty() && !wanted.contains(entry.getKey())) {
                continue;
            }
            if (passes(args[0], entry.getKey(), entry.getValue())) {
                passed++;
            } else {
                failed++;
            }
        }
        System.out.println(passed + " passed, " + failed + " failed");
        // Not a plain return: a client thread that did not end must not keep the program alive.
        System.exit(failed == 0 ? 0 : 1);
    }

    private static boolean passes(String namesrv, String name, Scenario scenario) {
        try (Session session = new Session(namesrv, name)) {
            scenario.run(session);
            System.out.println("PASS " + name);
            return true;
        } catch (Exception | AssertionError failure) {
            String reason = failure.toString().lines().findFirst().orElse("");
            System.out.println("FAIL " + name + ": " + reason);
            failure.printStackTrace();
            return false;
        }
    }
}
