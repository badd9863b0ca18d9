// Candidates for one user over REST, with nothing but the JDK (17):
//
//     java Retrieve.java HOST:PORT ITEM...
//     java Retrieve.java HOST:PORT ITEM... --where in_stock=true "price<=20" "brand!=acme"
//     java Retrieve.java HOST:PORT ITEM... --where "price<=20" --bounds "country=local>=2" "brand=acme<=3"
//
// Prints {"predictions": [{"item_ids": [...], "num_results": 10, ...}]}; ends with status 1 and the server's error
// otherwise. For gRPC, generate stubs from TF Serving's own .proto files: the request is a PredictRequest with the same
// signature name and inputs.

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.time.Duration;
import java.util.Arrays;
import java.util.stream.Collectors;

public class Retrieve {
    public static void main(String[] arguments) throws Exception {
        if (arguments.length < 2) {
            System.err.println("Expected HOST:PORT and at least one item id.");
            System.exit(2);
        }
        String where = flag(arguments, "--where");
        String bounds = flag(arguments, "--bounds");
        String body = where.isEmpty() && bounds.isEmpty() ? """
            {"signature_name": "retrieve", "instances": [{"history": [%s], "num_candidates": 10, "alpha": 1.0}]}
            """.formatted(list(arguments, 1)) : """
            {"signature_name": "%s", "instances": [
              {"history": [%s], "where": ["", %s], %s "num_candidates": 10, "alpha": 1.0, "joint_alpha": -1.0,
               "allow": [""], "exclude": [""], "seen": "", "cluster_quotas": [0.0], "cluster_min": [0], "cluster_max": [0]}]}
            """.formatted(bounds.isEmpty() ? "retrieve_filtered" : "retrieve_bounded", list(arguments, 1),
                where.isEmpty() ? "\"\"" : where, bounds.isEmpty() ? "" : "\"bounds\": [\"\", " + bounds + "],");
        HttpRequest request = HttpRequest.newBuilder(URI.create("http://" + arguments[0] + "/v1/models/tfdnc:predict"))
            .timeout(Duration.ofSeconds(10))
            .header("Content-Type", "application/json")
            .POST(HttpRequest.BodyPublishers.ofString(body))
            .build();
        HttpResponse<String> answer = HttpClient.newBuilder()
            .version(HttpClient.Version.HTTP_1_1)
            .connectTimeout(Duration.ofSeconds(2))
            .build()
            .send(request, HttpResponse.BodyHandlers.ofString());
        if (answer.statusCode() != 200) {
            System.err.println(answer.statusCode() + " " + answer.body());
            System.exit(1);
        }
        System.out.println(answer.body());
    }

    /** Returns the arguments after a flag as the elements of a JSON list; "" without the flag. */
    private static String flag(String[] arguments, String name) {
        int place = Arrays.asList(arguments).indexOf(name);
        return place < 0 ? "" : list(arguments, place + 1);
    }

    /** Returns the arguments up to the next flag as the elements of a JSON list. */
    private static String list(String[] arguments, int from) {
        return Arrays.stream(arguments).skip(from).takeWhile(text -> !text.startsWith("--"))
            .map(Retrieve::quoted).collect(Collectors.joining(", "));
    }

    /** Returns a text as a JSON string. */
    private static String quoted(String text) {
        return '"' + text.replace("\\", "\\\\").replace("\"", "\\\"") + '"';
    }
}
