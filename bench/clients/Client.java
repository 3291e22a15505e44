import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.time.Duration;

/** Sends requests with the JDK's own client, which prefers HTTP/2: it offers h2c on each connection. */
class Client {
    public static void main(String[] arguments) throws InterruptedException {
        String body = arguments[1];
        int count = Integer.parseInt(arguments[2]);
        long deadline = System.nanoTime() + Duration.ofSeconds(Long.parseLong(arguments[3])).toNanos();
        int good = 0;
        HttpClient client = HttpClient.newHttpClient();
        for (int number = 0; number < count && System.nanoTime() < deadline; number++) {
            // Every tenth on a connection of its own: that is when the offer is made.
            if (number % 10 == 0) {
                client = HttpClient.newHttpClient();
            }
            HttpRequest request = HttpRequest.newBuilder(URI.create(arguments[0]))
                    .header("Content-Type", "application/json")
                    .timeout(Duration.ofSeconds(5))
                    .POST(HttpRequest.BodyPublishers.ofString(body))
                    .build();
            try {
                HttpResponse<String> answer = client.send(request, HttpResponse.BodyHandlers.ofString());
                if (answer.statusCode() == 200 && answer.body().contains("predictions")) {
                    good++;
                }
            } catch (java.io.IOException failure) {
                System.err.println(failure);
            }
        }
        System.out.println(good);
    }
}
