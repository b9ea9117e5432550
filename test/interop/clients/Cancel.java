import java.io.InputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.time.Duration;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/** Cancels tasks with the JDK alone: java Cancel.java OPEN COMPLETE. Prints each status, and what the body states. */
public class Cancel {
    private static final String GATEWAY = System.getenv("GATEWAY_URL");
    private static HttpClient client;

    public static void main(String[] args) throws Exception {
        client = createClient(System.getenv("GATEWAY_CA"));
        String id = member(cancel(args[0]), "cancellationId");
        HttpResponse<String> ended;
        do {
            ended = send(request("/cancellations/" + id).header("Prefer", "wait=10").GET());
        } while (!ended.body().contains("\"isFinal\":true"));
        System.out.println(ended.statusCode() + " " + member(ended, "outcome"));
        cancel("absent");
        cancel(args[1]);
        cancel(args[0]);
        System.out.println(ended.version() == HttpClient.Version.HTTP_2 ? "HTTP/2" : "HTTP/1.1");
    }

    private static HttpResponse<String> cancel(String taskNo) throws Exception {
        HttpResponse<String> response = send(request("/tasks/" + taskNo).DELETE());
        String code = member(response, "code");
        String result = code != null ? code : member(response, "cancelStatus");
        String retryAfter = response.headers().firstValue("Retry-After").orElse("");
        System.out.println(response.statusCode() + " " + result + " " + retryAfter);
        return response;
    }

    private static HttpRequest.Builder request(String path) {
        return HttpRequest.newBuilder(URI.create(GATEWAY + path))
                .timeout(Duration.ofSeconds(20))
                .header("X-API-Key", System.getenv("GATEWAY_API_KEY"));
    }

    private static HttpResponse<String> send(HttpRequest.Builder request) throws Exception {
        return client.send(request.build(), HttpResponse.BodyHandlers.ofString());
    }

    /** The JDK has no parser of JSON; these members are plain strings. */
    private static String member(HttpResponse<String> response, String name) {
        Matcher matcher = Pattern.compile("\"" + name + "\":\"([^\"]*)\"").matcher(response.body());
        return matcher.find() ? matcher.group(1) : null;
    }

    private static HttpClient createClient(String authority) throws Exception {
        HttpClient.Builder builder = HttpClient.newBuilder();
        if (authority == null) return builder.build();
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        try (InputStream file = Files.newInputStream(Path.of(authority))) {
            store.setCertificateEntry("gateway", CertificateFactory.getInstance("X.509").generateCertificate(file));
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);
        return builder.sslContext(context).build();
    }
}
