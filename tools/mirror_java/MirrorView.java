import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.connect.mirror.RemoteClusterUtils;

/** Prints what a Java program learns of a mirror: BOOTSTRAP ALIAS GROUP. Words are parted by tabs. */
public class MirrorView {
    private static final Duration PATIENCE = Duration.ofSeconds(30);

    public static void main(String[] arguments) throws Exception {
        String alias = arguments[1];
        Map<String, Object> config = new HashMap<>();
        config.put("bootstrap.servers", arguments[0]);
        RemoteClusterUtils.upstreamClusters(config).forEach(one -> say("upstream", one));
        RemoteClusterUtils.heartbeatTopics(config).forEach(one -> say("heartbeats", one));
        RemoteClusterUtils.checkpointTopics(config).forEach(one -> say("checkpoints", one));
        say("hops", alias, RemoteClusterUtils.replicationHops(config, alias));
        Map<TopicPartition, OffsetAndMetadata> offsets =
            RemoteClusterUtils.translateOffsets(config, alias, arguments[2], PATIENCE);
        config.put("isolation.level", "read_committed");
        config.put("auto.offset.reset", "none");
        try (KafkaConsumer<String, String> consumer =
                new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer())) {
            offsets.forEach((partition, offset) -> {
                say("offset", partition.topic(), partition.partition(), offset.offset(), offset.metadata());
                say("next", partition.topic(), partition.partition(), next(consumer, partition, offset));
            });
        }
    }

    /** The value of the first record that a consumer reads which goes on at this offset; - when there is none. */
    private static String next(
            KafkaConsumer<String, String> consumer, TopicPartition partition, OffsetAndMetadata offset) {
        consumer.assign(List.of(partition));
        consumer.seek(partition, offset.offset());
        long end = consumer.endOffsets(List.of(partition)).get(partition);
        while (consumer.position(partition) < end) {
            for (ConsumerRecord<String, String> record : consumer.poll(PATIENCE)) {
                return record.value();
            }
        }
        return "-";
    }

    private static void say(Object... words) {
        StringBuilder line = new StringBuilder();
        for (Object word : words) {
            line.append(line.isEmpty() ? "" : "\t").append(word);
        }
        System.out.println(line);
    }
}
