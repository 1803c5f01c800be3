package interop;

/** One behaviour to show with a real client; fails by throwing. */
interface Scenario {
    void run(Session session) throws Exception;
}
