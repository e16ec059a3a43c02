package conformance;

import org.apache.dubbo.config.ApplicationConfig;
import org.apache.dubbo.config.ProtocolConfig;
import org.apache.dubbo.config.RegistryConfig;
import org.apache.dubbo.config.ServiceConfig;
import org.apache.dubbo.config.bootstrap.DubboBootstrap;

/** Serves until its standard input ends. Arguments: the registry, and the port to serve on. */
public final class Provider {
    public static void main(String[] args) throws Exception {
        ServiceConfig<Greeter> service = new ServiceConfig<>();
        service.setInterface(Greeter.class);
        service.setRef(name -> "hello " + name + " from " + args[1]);
        ProtocolConfig protocol = new ProtocolConfig("dubbo", Integer.parseInt(args[1]));
        protocol.setHost("127.0.0.1");
        ApplicationConfig application = new ApplicationConfig("greeter-provider");
        application.setQosEnable(false);
        DubboBootstrap.getInstance()
                .application(application)
                .registry(new RegistryConfig(args[0]))
                .protocol(protocol)
                .service(service)
                .start();
        System.out.println("serving");
        while (System.in.read() >= 0) {}
        System.exit(0);
    }
}
