/* Asks a SavedModel without any Python: reads requests, runs its signatures, writes the answers.
 *
 *     java -cp 'JARS/*' Replay.java BUNDLE REQUESTS ANSWERS
 *
 * Both files hold, big-endian: the number of calls, and for each the name of the signature, the number of tensors, and
 * for each of these its name, the length of its TensorProto, and that. Numbers stand in tensor_content, strings in
 * string_val.
 */

import com.google.protobuf.ByteString;
import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import org.tensorflow.Result;
import org.tensorflow.SavedModelBundle;
import org.tensorflow.Tensor;
import org.tensorflow.ndarray.NdArray;
import org.tensorflow.ndarray.NdArrays;
import org.tensorflow.ndarray.Shape;
import org.tensorflow.ndarray.buffer.ByteDataBuffer;
import org.tensorflow.ndarray.buffer.DataBuffers;
import org.tensorflow.proto.DataType;
import org.tensorflow.proto.TensorProto;
import org.tensorflow.proto.TensorShapeProto;
import org.tensorflow.types.TFloat32;
import org.tensorflow.types.TInt32;
import org.tensorflow.types.TInt64;
import org.tensorflow.types.TString;
import org.tensorflow.types.family.TType;

public final class Replay {
  private static final Map<DataType, Class<? extends TType>> NUMBERS =
      Map.of(DataType.DT_FLOAT, TFloat32.class, DataType.DT_INT32, TInt32.class, DataType.DT_INT64, TInt64.class);

  public static void main(String[] arguments) throws IOException {
    try (SavedModelBundle bundle = SavedModelBundle.load(arguments[0], SavedModelBundle.DEFAULT_TAG)) {
      replay(bundle, Path.of(arguments[1]), Path.of(arguments[2]));
    }
  }

  private static void replay(SavedModelBundle bundle, Path requests, Path answers) throws IOException {
    try (DataInputStream in = new DataInputStream(new BufferedInputStream(Files.newInputStream(requests)));
        DataOutputStream out = new DataOutputStream(new BufferedOutputStream(Files.newOutputStream(answers)))) {
      int calls = in.readInt();
      out.writeInt(calls);
      for (int call = 0; call < calls; call++) {
        String signature = in.readUTF();
        Map<String, Tensor> inputs = new HashMap<>();
        int count = in.readInt();
        for (int input = 0; input < count; input++) {
          String name = in.readUTF();
          inputs.put(name, tensor(TensorProto.parseFrom(in.readNBytes(in.readInt()))));
        }
        try (Result outputs = bundle.function(signature).call(inputs)) {
          write(signature, outputs, out);
        }
        inputs.values().forEach(Tensor::close);
      }
    }
  }

  private static void write(String signature, Result outputs, DataOutputStream out) throws IOException {
    out.writeUTF(signature);
    out.writeInt(outputs.size());
    for (Map.Entry<String, Tensor> output : outputs) {
      byte[] content = proto(output.getValue()).toByteArray();
      out.writeUTF(output.getKey());
      out.writeInt(content.length);
      out.write(content);
    }
  }

  private static Tensor tensor(TensorProto proto) {
    Shape shape = Shape.of(proto.getTensorShape().getDimList().stream().mapToLong(dim -> dim.getSize()).toArray());
    if (proto.getDtype() == DataType.DT_STRING) {
      NdArray<byte[]> values = NdArrays.ofObjects(byte[].class, shape);
      int[] next = {0};
      values.scalars().forEach(value -> value.setObject(proto.getStringVal(next[0]++).toByteArray()));
      return TString.tensorOfBytes(values);
    }
    ByteDataBuffer content = DataBuffers.of(proto.getTensorContent().toByteArray(), true, false);
    return Tensor.of(NUMBERS.get(proto.getDtype()), shape, content);
  }

  private static TensorProto proto(Tensor tensor) {
    TensorShapeProto.Builder shape = TensorShapeProto.newBuilder();
    for (long size : tensor.shape().asArray()) {
      shape.addDim(TensorShapeProto.Dim.newBuilder().setSize(size));
    }
    TensorProto.Builder proto = TensorProto.newBuilder().setDtype(tensor.dataType()).setTensorShape(shape);
    if (tensor instanceof TString) {
      ((TString) tensor)
          .asBytes()
          .scalars()
          .forEach(value -> proto.addStringVal(ByteString.copyFrom(value.getObject())));
      return proto.build();
    }
    ByteDataBuffer data = tensor.asRawTensor().data();
    byte[] content = new byte[(int) data.size()];
    data.read(content);
    return proto.setTensorContent(ByteString.copyFrom(content)).build();
  }
}
