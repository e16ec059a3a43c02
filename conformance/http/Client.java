// Java's HttpClient with HTTP/1.1 and HTTP/2: arguments are the URLs of the listeners without and with TLS.

import java.io.FileInputStream;
import java.io.InputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpClient.Version;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.security.KeyStore;
import java.security.MessageDigest;
import java.security.cert.CertificateFactory;
import java.util.HexFormat;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

class Client {
    static final byte[] LARGE = new byte[20 << 20];

    final HttpClient client;
    final String base;
    final Version version;

    Client(String base, Version version) throws Exception {
        this.base = base;
        this.version = version;
        client = HttpClient.newBuilder().version(version).sslContext(trust()).build();
    }

    static SSLContext trust() throws Exception {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null);
        try (InputStream pem = new FileInputStream(System.getenv("CA"))) {
            store.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(pem));
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);
        return context;
    }

    HttpRequest.Builder to(String path) {
        return HttpRequest.newBuilder(URI.create(base + path));
    }

    String get(String path) throws Exception {
        return client.send(to(path).build(), BodyHandlers.ofString()).body();
    }

    String post(BodyPublisher body) throws Exception {
        return client.send(to("/digest").POST(body).build(), BodyHandlers.ofString()).body();
    }

    static void same(String what, Object got, Object wanted) {
        if (!wanted.equals(got)) {
            throw new AssertionError(what + ": " + got + ", wanted " + wanted);
        }
    }

    void check() throws Exception {
        for (int i = 0; i < 20; i++) {
            var answer = client.send(to("/").build(), BodyHandlers.ofString());
            same("hello", answer.body(), "hello");
            same("version", answer.version(), version);
        }
        byte[] sum = MessageDigest.getInstance("SHA-256").digest(LARGE);
        String digest = HexFormat.of().formatHex(sum) + " " + LARGE.length;
        // No expectContinue: Java 17 waits for ever then, even where nothing is between it and the instance.
        same("an upload", post(BodyPublishers.ofByteArray(LARGE)), digest);
        InputStream bytes = new java.io.ByteArrayInputStream(LARGE);
        same("an upload of unknown length", post(BodyPublishers.ofInputStream(() -> bytes)), digest);
        for (String path : new String[] {"/bytes/", "/chunks/"}) {
            byte[] got = client.send(to(path + LARGE.length).build(), BodyHandlers.ofByteArray()).body();
            same(path, got.length, LARGE.length);
        }
        var early = client.send(to("/early").POST(BodyPublishers.ofByteArray(LARGE)).build(), BodyHandlers.ofString());
        same("an early answer", early.statusCode(), 413);
        breakOff();
    }

    void breakOff() throws Exception {
        String before = get("/gone");
        InputStream endless = client.send(to("/endless").build(), BodyHandlers.ofInputStream()).body();
        same("some of it", endless.readNBytes(1000).length, 1000);
        endless.close();
        long deadline = System.nanoTime() + 20_000_000_000L;
        while (get("/gone").equals(before)) {
            if (System.nanoTime() > deadline) {
                throw new AssertionError("the instance did not hear that the request was broken off");
            }
            Thread.sleep(50);
        }
    }

    public static void main(String[] listeners) throws Exception {
        for (String base : listeners) {
            new Client(base, Version.HTTP_1_1).check();
            if (base.startsWith("https:")) {
                new Client(base, Version.HTTP_2).check();
            }
        }
    }
}
