package conformance;

public interface Greeter {
    String greet(String name);
}
