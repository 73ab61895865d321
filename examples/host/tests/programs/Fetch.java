import java.io.InputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.security.MessageDigest;
import java.util.HexFormat;

/** Loads a file, not too fast, and prints the digest of what came. */
public class Fetch {
    public static void main(String[] arguments) throws Exception {
        HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
        HttpRequest request = HttpRequest.newBuilder(URI.create(arguments[0])).build();
        MessageDigest digest = MessageDigest.getInstance("SHA-256");
        try (InputStream body = client.send(request, HttpResponse.BodyHandlers.ofInputStream()).body()) {
            byte[] part = new byte[65_536];
            for (int length = body.read(part); length >= 0; length = body.read(part)) {
                digest.update(part, 0, length);
                Thread.sleep(length / 2_048);
            }
        }
        System.out.println(HexFormat.of().formatHex(digest.digest()));
    }
}
