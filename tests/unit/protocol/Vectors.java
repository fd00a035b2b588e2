// Lets Apache Kafka's own classes read encoded messages, write them again, and say what is in them.
// Standard input, a line for each message: class name, version, hexadecimal bytes.
// Standard output, a line for each: hexadecimal bytes, the content as JSON.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.ByteBuffer;
import java.util.HexFormat;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.MessageUtil;
import org.apache.kafka.common.protocol.Readable;

public class Vectors {
    public static void main(String[] arguments) throws Exception {
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            String[] parts = line.split(" ", -1);
            short version = Short.parseShort(parts[1]);
            ByteBuffer buffer = ByteBuffer.wrap(HexFormat.of().parseHex(parts[2]));
            Class<?> type = Class.forName(parts[0]);
            Message message = (Message) type.getConstructor(Readable.class, short.class)
                .newInstance(new ByteBufferAccessor(buffer), version);
            if (buffer.hasRemaining()) {
                throw new IllegalStateException(parts[0] + " leaves " + buffer.remaining() + " bytes");
            }
            ByteBuffer written = MessageUtil.toByteBufferAccessor(message, version).buffer();
            byte[] bytes = new byte[written.remaining()];
            written.get(bytes);
            Object json = Class.forName(parts[0] + "JsonConverter").getMethod("write", type, short.class)
                .invoke(null, message, version);
            System.out.println(HexFormat.of().formatHex(bytes) + "\t" + json);
        }
    }
}
