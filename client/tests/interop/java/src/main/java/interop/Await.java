package interop;

import java.time.Duration;
import java.util.concurrent.Callable;

/** Waits for conditions. */
final class Await {
    /** How long anything may take; generous, because it only matters when a scenario fails. */
    static final Duration LONG = Duration.ofSeconds(30);
    private static final long POLL_MS = 5;

    private Await() {
    }

    static void until(String what, Callable<Boolean> condition) throws Exception {
        until(what, LONG, condition);
    }

    static void until(String what, Duration limit, Callable<Boolean> condition) throws Exception {
        untilDeadline(what, System.nanoTime() + limit.toNanos(), condition);
    }

    /** Waits until a moment of {@link System#nanoTime()}. */
    static void untilDeadline(String what, long deadline, Callable<Boolean> condition) throws Exception {
        while (!condition.call()) {
            Check.that(System.nanoTime() < deadline, "not in time: " + what);
            Thread.sleep(POLL_MS);
        }
    }
}
