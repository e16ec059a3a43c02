package conformance;

import org.apache.dubbo.config.ApplicationConfig;
import org.apache.dubbo.config.ReferenceConfig;
import org.apache.dubbo.config.RegistryConfig;
import org.apache.dubbo.config.bootstrap.DubboBootstrap;

/** Asks once. The argument is the registry, or, beginning with dubbo://, where to ask. */
public final class Consumer {
    public static void main(String[] args) {
        boolean direct = args[0].startsWith("dubbo://");
        ReferenceConfig<Greeter> reference = new ReferenceConfig<>();
        reference.setInterface(Greeter.class);
        reference.setTimeout(10_000);
        if (direct) {
            reference.setUrl(args[0]);
        }
        ApplicationConfig application = new ApplicationConfig("greeter-consumer");
        application.setQosEnable(false);
        DubboBootstrap.getInstance()
                .application(application)
                .registry(new RegistryConfig(direct ? "N/A" : args[0]))
                .reference(reference)
                .start();
        System.out.println("answer: " + reference.get().greet("world"));
        System.exit(0);
    }
}
