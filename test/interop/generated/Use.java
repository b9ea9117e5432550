import java.net.URI;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.openapitools.client.ApiClient;
import org.openapitools.client.ApiException;
import org.openapitools.client.api.AuditTrailApi;
import org.openapitools.client.api.TasksApi;
import org.openapitools.client.model.CancelResult;
import org.openapitools.client.model.CancellationWithTask;

/** Uses the generated client: Use TASK. Prints the status of the cancellation, its outcome, and a problem. */
public class Use {
    public static void main(String[] args) throws Exception {
        URI gateway = URI.create(System.getenv("GATEWAY_URL"));
        ApiClient client = new ApiClient();
        client.setScheme(gateway.getScheme()).setHost(gateway.getHost()).setPort(gateway.getPort()).setBasePath("");
        client.setRequestInterceptor(request -> request.header("X-API-Key", System.getenv("GATEWAY_API_KEY")));
        TasksApi tasks = new TasksApi(client);
        CancelResult result = tasks.cancelTask(args[0], null, null, null, null);
        System.out.println(result.getCancelStatus());
        AuditTrailApi trail = new AuditTrailApi(client);
        CancellationWithTask record = trail.getCancellation(result.getCancellationId(), null, null, null, null);
        System.out.println(record.getOutcome() + " " + record.getSettledBy());
        try {
            tasks.cancelTask("absent", null, null, null, null);
        } catch (ApiException error) {
            Matcher code = Pattern.compile("\"code\":\"([^\"]*)\"").matcher(error.getResponseBody());
            System.out.println(error.getCode() + " " + (code.find() ? code.group(1) : error.getResponseBody()));
        }
    }
}
