package org.apache.curator.test;

import java.io.BufferedReader;
import java.io.Closeable;
import java.io.File;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.concurrent.TimeUnit;

/** What Curator's tests think is ZooKeeper within their own process: a pointsman of their own, started, stopped and started again. */
public class TestingServer implements Closeable {
    private final Path home;
    private final int port;
    private Process process;

    public TestingServer() throws Exception {
        this(-1, true);
    }

    public TestingServer(boolean start) throws Exception {
        this(-1, start);
    }

    public TestingServer(int port) throws Exception {
        this(port, true);
    }

    public TestingServer(int port, boolean start) throws Exception {
        this(port, null, start);
    }

    public TestingServer(int port, File directory) throws Exception {
        this(port, directory, true);
    }

    public TestingServer(int port, File directory, boolean start) throws Exception {
        this.port = port > 0 ? port : InstanceSpec.getRandomPort();
        this.home = directory == null ? Files.createTempDirectory("pointsman-curator") : directory.toPath();
        if (start) {
            start();
        }
    }

    public TestingServer(InstanceSpec spec, boolean start) throws Exception {
        this(spec.getPort(), spec.getDataDirectory(), start);
    }

    public TestingServer(Map<String, Object> properties) throws Exception {
        this(-1, true);
    }

    public int getPort() {
        return port;
    }

    public File getTempDirectory() {
        return home.toFile();
    }

    public String getConnectString() {
        return "127.0.0.1:" + port;
    }

    public synchronized void start() throws Exception {
        if (process != null) {
            return;
        }
        Files.createDirectories(home);
        Path config = home.resolve("pointsman.toml");
        Files.writeString(config, String.join("\n",
                "[node]",
                "data_dir = \"" + home.resolve("data") + "\"",
                "workers = 1",
                "[api]",
                "bind = \"127.0.0.1:0\"",
                "[log.access]",
                "format = \"off\"",
                "[front.zookeeper]",
                "bind = \"127.0.0.1:" + port + "\"",
                // Of curator-test, as those tests set it that want it.
                "super_digest = \"curator-test:zghsj3JfJqK7DbWf0RQ1BgbJH9w=\"",
                // As with the ticks of Curator's own server.
                "min_session_timeout = \"6s\"",
                ""));
        process = new ProcessBuilder(System.getenv("POINTSMAN"), "serve", "-c", config.toString())
                .redirectOutput(ProcessBuilder.Redirect.DISCARD)
                .start();
        BufferedReader said = new BufferedReader(new InputStreamReader(process.getErrorStream()));
        for (String line = said.readLine(); ; line = said.readLine()) {
            if (line == null) {
                throw new IOException("pointsman did not start");
            }
            if (line.startsWith("pointsman: serving")) {
                break;
            }
        }
        Thread rest = new Thread(() -> said.lines().forEach(line -> {}));
        rest.setDaemon(true);
        rest.start();
        Process started = process;
        Runtime.getRuntime().addShutdownHook(new Thread(started::destroyForcibly));
    }

    /** As the plug is pulled: what was acknowledged must be there afterwards. */
    public synchronized void stop() throws IOException {
        if (process == null) {
            return;
        }
        process.destroyForcibly();
        try {
            process.waitFor(10, TimeUnit.SECONDS);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
        process = null;
    }

    public void restart() throws Exception {
        stop();
        start();
    }

    @Override
    public void close() throws IOException {
        stop();
    }
}
