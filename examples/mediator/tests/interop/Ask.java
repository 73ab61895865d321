import java.io.InputStream;
import java.net.HttpURLConnection;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;

/** Ask.java METHOD URL BODY-FILE|- OUT-FILE: prints the status. */
public class Ask {
    public static void main(String[] words) throws Exception {
        var connection = (HttpURLConnection) URI.create(words[1]).toURL().openConnection();
        connection.setRequestMethod(words[0]);
        if (!words[2].equals("-")) {
            connection.setDoOutput(true);
            connection.setRequestProperty("Content-Type", "application/octet-stream");
            try (var out = connection.getOutputStream()) {
                out.write(Files.readAllBytes(Path.of(words[2])));
            }
        }
        int status = connection.getResponseCode();
        InputStream in = status >= 400 ? connection.getErrorStream() : connection.getInputStream();
        Files.write(Path.of(words[3]), in == null ? new byte[0] : in.readAllBytes());
        System.out.println(status);
    }
}
