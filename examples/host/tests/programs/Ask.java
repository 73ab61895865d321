import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.DatagramPacket;
import java.net.DatagramSocket;
import java.net.InetAddress;
import java.net.PortUnreachableException;
import java.net.SocketTimeoutException;

/** Sends each line of its input from one connected socket, and prints the answer, or why there is none. */
public class Ask {
    public static void main(String[] arguments) throws Exception {
        DatagramSocket socket = new DatagramSocket();
        socket.connect(InetAddress.getByName(arguments[0]), Integer.parseInt(arguments[1]));
        socket.setSoTimeout(2_000);
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            byte[] question = line.getBytes();
            DatagramPacket answer = new DatagramPacket(new byte[65_535], 65_535);
            try {
                socket.send(new DatagramPacket(question, question.length));
                socket.receive(answer);
                System.out.println(new String(answer.getData(), 0, answer.getLength()));
            } catch (SocketTimeoutException | PortUnreachableException error) {
                System.out.println(error.getClass().getSimpleName());
            }
        }
    }
}
